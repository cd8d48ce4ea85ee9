/** The rows of a comparison: params and values of metrics, side by side for some runs. */
import { decodeMap, type CborValue } from '../../api/cbor.ts';
import { groupBy } from '../../collections.ts';
import { isSystemMetric, metricTitle, plainContext } from '../../format/context.ts';
import { importance, isLowerBetter, summaryOf, summaryPart } from '../../format/goals.svelte.ts';
import { comparable, isNumber, plainText } from '../../format/value.ts';
import type { Run } from '../../gen/matyan/runs/v1/run_pb.ts';
import { paramRows } from '../run/param_rows.ts';

/** Runs of a query that are compared. */
export const MAX_FOUND = 50;

export interface CompareRow {
  /** Differs also where titles are equal. */
  id: string;
  title: string;
  /** Name of a metric. */
  name?: string;
  /** A value for each run; undefined: the run has none. */
  values: (CborValue | undefined)[];
  isEqual: boolean;
  /** Whether lower values are better; undefined if the name of the metric does not say. */
  isLower?: boolean | undefined;
  /** The best of different values, if it is known. */
  best?: CborValue | undefined;
}

/** The value of a run in a row. Only metrics have a name. */
interface Cell extends Pick<CompareRow, 'id' | 'title' | 'name'> {
  value: CborValue | undefined;
}

/** Ids of params that readers chose for the run, and compare first. */
const HYPERPARAMS = 'param:["hparams"';

/** Results, params, other metrics, and then the load of the machine. */
export function compareRows(runs: readonly Run[]): CompareRow[] {
  const params = table(runs, run =>
    paramRows(decodeMap(run.params))
      .filter(({ isGroup }) => !isGroup)
      .map(({ path, segments, value }) => ({
        id: `param:${JSON.stringify(segments)}`,
        title: path,
        value,
      })),
  );
  // Sorting is stable: other params keep their order.
  const isTuned = ({ id }: CompareRow): number => (id.startsWith(HYPERPARAMS) ? 1 : 0);
  params.sort((a, b) => isTuned(b) - isTuned(a));
  const metrics = table(runs, ({ series }) =>
    series.map(info => {
      const { name, context } = info;
      const id = `metric:${name} ${plainContext(context)}`;
      const part = summaryPart(name);
      const title = `${metricTitle(name, context)}${part === 'last' ? '' : ` ${part}`}`;
      return { id, title, name, value: summaryOf(info) };
    }),
  );
  const rank = ({ name = '', title }: CompareRow): number => importance(name, title);
  metrics.sort((a, b) => rank(b) - rank(a));
  // Contexts with equal values and different keys are shown with their keys.
  for (const same of groupBy(metrics, ({ title }) => title).values())
    if (same.length > 1) for (const row of same) row.title = row.id.replace('metric:', '');
  const isSystem = ({ name = '' }: CompareRow): boolean => isSystemMetric(name);
  const own = metrics.filter(row => !isSystem(row));
  const results = own.filter(({ isLower }) => isLower !== undefined);
  return [
    ...results,
    ...params,
    ...own.filter(row => !results.includes(row)),
    ...metrics.filter(isSystem),
  ];
}

function compared({ value: _, ...cell }: Cell, values: CompareRow['values']): CompareRow {
  const [first, ...others] = values.map(comparable);
  const isEqual = others.every(other => other === first);
  const numbers = values.filter(
    value => typeof value === 'number' && !Number.isNaN(value),
  ) as number[];
  const isLower = isLowerBetter(cell.name ?? '');
  const hasBest = !isEqual && isLower !== undefined && numbers.length > 1;
  const best = isLower ? Math.min(...numbers) : Math.max(...numbers);
  return { ...cell, values, isEqual, isLower, ...(hasBest && { best }) };
}

/**
 * Indexes of the runs in the order of a row: the best number or the first text first, runs without
 * a value last.
 */
export function bestFirst({ values, isLower }: CompareRow): number[] {
  const kind = (value: CborValue | undefined): number =>
    value === undefined || Number.isNaN(value) ? 2 : isNumber(value) ? 0 : 1;
  return [...values.keys()].sort((left, right) => {
    const a = values[left];
    const b = values[right];
    if (kind(a) !== kind(b)) return kind(a) - kind(b);
    if (!isNumber(a) || !isNumber(b)) return plainText(a).localeCompare(plainText(b));
    return (Number(a) - Number(b)) * (isLower ? 1 : -1);
  });
}

/** Rows in order of first appearance. */
function table(runs: readonly Run[], cellsOf: (run: Run) => Cell[]): CompareRow[] {
  const cells = runs.flatMap((run, at) => cellsOf(run).map(cell => ({ cell, at })));
  return [...groupBy(cells, ({ cell }) => cell.id).values()].map(own => {
    const values = runs.map((): CborValue | undefined => undefined);
    for (const { cell, at } of own) values[at] = cell.value;
    return compared((own[0] as (typeof own)[0]).cell, values);
  });
}
