/** Whether rows still have the order in which they were sorted: values of active runs change. */
import { isNumber } from '../../format/value.ts';
import { parseColumn, valueIn } from './columns.ts';
import type { RunRow } from './search.ts';

/**
 * Compares neighbors by the most significant column, as far as their numbers are known. Rows that
 * have not been read are `undefined`.
 */
export function isInOrder(rows: readonly (RunRow | undefined)[], sort: readonly string[]): boolean {
  const [first = ''] = sort;
  const column = parseColumn(first.replace(/^-/, ''));
  // Only metrics change by themselves.
  if (column?.kind !== 'metric') return true;
  const sign = first.startsWith('-') ? -1 : 1;
  const places = rows.map(row => {
    const value = row && valueIn(row, column);
    return isNumber(value) && Number.isFinite(Number(value)) ? sign * Number(value) : undefined;
  });
  return places.every((place, at) => {
    const before = places[at - 1];
    return place === undefined || before === undefined || before <= place;
  });
}
