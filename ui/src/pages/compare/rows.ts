/** The rows of a comparison: params and last values of metrics, side by side for some runs. */
import { decodeMap, type CborValue } from '../../api/cbor.ts';
import { metricTitle, SYSTEM_PREFIX } from '../../format/context.ts';
import { importance, isLowerBetter } from '../../format/importance.ts';
import { comparable, isNumber, plainText } from '../../format/value.ts';
import type { Run } from '../../gen/matyan/runs/v1/run_pb.ts';
import { paramRows } from '../run/param_rows.ts';

/** Runs of a query that are compared; ids in the URL may be more. */
export const MAX_FOUND = 50;

export interface CompareRow {
  /** Distinguishes a metric from a param with the same title. */
  id: string;
  title: string;
  /** One for each run; undefined: the run has none. */
  values: (CborValue | undefined)[];
  isEqual: boolean;
  /** Whether lower values are better; undefined if the name of the metric does not say. */
  isLower?: boolean | undefined;
  /** The best of different values, if it is known. */
  best?: CborValue | undefined;
}

/** Results, params, other metrics, and then the load of the machine. */
export function compareRows(runs: readonly Run[]): CompareRow[] {
  const leaves = (run: Run) => paramRows(decodeMap(run.params)).filter(({ isGroup }) => !isGroup);
  const params = table(runs, run => leaves(run).map(({ path, value }) => [path, value])).map(row =>
    compared('param', ...row),
  );
  const names = new Map<string, string>();
  const metrics = table(runs, ({ series }) =>
    series.map(({ name, context, last }): [string, CborValue | undefined] => {
      const title = metricTitle(name, context);
      names.set(title, name);
      return [title, last];
    }),
  ).map(([title, values]) => compared('metric', title, values, isLowerBetter(names.get(title) ?? '')));
  const rank = ({ title }: CompareRow): number => importance(names.get(title) ?? '', title);
  metrics.sort((a, b) => rank(b) - rank(a));
  const isSystem = ({ title }: CompareRow): boolean => names.get(title)?.startsWith(SYSTEM_PREFIX) ?? false;
  const own = metrics.filter(row => !isSystem(row));
  const results = own.filter(({ isLower }) => isLower !== undefined);
  return [...results, ...params, ...own.filter(row => !results.includes(row)), ...metrics.filter(isSystem)];
}

function compared(kind: string, title: string, values: CompareRow['values'], isLower?: boolean): CompareRow {
  const [first, ...others] = values.map(comparable);
  const isEqual = others.every(other => other === first);
  const numbers = values.filter(value => typeof value === 'number' && !Number.isNaN(value)) as number[];
  const hasBest = !isEqual && isLower !== undefined && numbers.length > 1;
  const best = isLower ? Math.min(...numbers) : Math.max(...numbers);
  return { id: `${kind}:${title}`, title, values, isEqual, isLower, ...(hasBest && { best }) };
}

/** Indexes of the runs in the order of a row: the best number or the first text first, runs without a value last. */
export function bestFirst({ values, isLower }: CompareRow): number[] {
  const kind = (value: CborValue | undefined): number =>
    value === undefined || Number.isNaN(value) ? 2 : isNumber(value) ? 0 : 1;
  return [...values.keys()].sort((left, right) => {
    const [a, b] = [values[left], values[right]];
    if (kind(a) !== kind(b)) return kind(a) - kind(b);
    if (!isNumber(a) || !isNumber(b)) return plainText(a).localeCompare(plainText(b));
    return (Number(a) - Number(b)) * (isLower ? 1 : -1);
  });
}

/** Values by title, in order of first appearance. */
function table(
  runs: readonly Run[],
  valuesOf: (run: Run) => [title: string, value: CborValue | undefined][],
): [string, (CborValue | undefined)[]][] {
  const rows = new Map<string, (CborValue | undefined)[]>();
  for (const [at, run] of runs.entries()) {
    for (const [title, value] of valuesOf(run)) {
      const row = rows.get(title) ?? runs.map(() => undefined);
      row[at] = value;
      rows.set(title, row);
    }
  }
  return [...rows];
}
