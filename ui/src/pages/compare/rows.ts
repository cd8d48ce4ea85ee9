/** The rows of a comparison: params and last values of metrics, side by side for some runs. */
import { decodeMap, isMap, type CborValue } from '../../api/cbor.ts';
import { metricTitle } from '../../format/context.ts';
import { comparable } from '../../format/value.ts';
import type { Run } from '../../gen/matyan/runs/v1/run_pb.ts';

export interface CompareRow {
  title: string;
  /** One for each run; undefined: the run has none. */
  values: (CborValue | undefined)[];
  isEqual: boolean;
}

export function compareRows(runs: readonly Run[]): CompareRow[] {
  const params = table(runs, run => leaves(decodeMap(run.params)));
  const metrics = table(runs, ({ series }) =>
    series.map(({ name, context, last }): [string, CborValue | undefined] => [
      metricTitle(name, context),
      last,
    ]),
  );
  return [...params, ...metrics].map(([title, values]) => {
    const [first, ...others] = values.map(comparable);
    return { title, values, isEqual: others.every(other => other === first) };
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

/** Everything that is not a map, with its path; an empty map is a value too. */
function leaves(value: { [key: string]: CborValue }, prefix = ''): [string, CborValue][] {
  return Object.entries(value).flatMap(([key, inner]) =>
    isMap(inner) && Object.keys(inner).length > 0
      ? leaves(inner, `${prefix}${key}.`)
      : [[`${prefix}${key}`, inner] satisfies [string, CborValue]],
  );
}
