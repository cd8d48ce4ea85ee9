/** Which rows have left the order in which they were sorted: values of active runs change. */
import { isNumber } from '../../format/value.ts';
import { parseColumn, valueIn } from './columns.ts';
import type { RunRow } from './search.ts';

/**
 * The number of runs whose value belongs above one of the rows before, by the most significant
 * column, as far as numbers are known. Rows that have not been read are `undefined`.
 */
export function misplaced(rows: readonly (RunRow | undefined)[], sort: readonly string[]): number {
  const [first = ''] = sort;
  const column = parseColumn(first.replace(/^-/, ''));
  // Only metrics change by themselves.
  if (column?.kind !== 'metric') return 0;
  const sign = first.startsWith('-') ? -1 : 1;
  let last = -Infinity;
  let count = 0;
  for (const row of rows) {
    const value = row && valueIn(row, column);
    // What follows rows that are not known, such as the head of a group, has its own order.
    if (!isNumber(value) || !Number.isFinite(Number(value))) {
      last = -Infinity;
      continue;
    }
    const place = sign * Number(value);
    if (place < last) count += 1;
    else last = place;
  }
  return count;
}
