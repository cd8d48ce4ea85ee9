/**
 * The runs of a query with the values of their axes. Columns that the reader did not choose come
 * from the newest runs.
 */
import { decodeMap } from '../../api/cbor.ts';
import { findRuns, rereadRuns, sampleRuns, type FoundRuns, type RunParts } from '../../api/runs.ts';
import { SeriesType } from '../../gen/matyan/common/v1/common_pb.ts';
import {
  columnText,
  defaultColumns,
  isIdColumn,
  metricColumns,
  parseColumn,
} from '../runs/columns.ts';

const MAX_RUNS = 1_000;
/** More axes are chosen by the reader. */
const MAX_PARAMS = 7;

export type Project = Awaited<ReturnType<typeof readProject>>;

/**
 * `metrics` are the metrics that can be chosen; values of metrics called `names` are read too. Of
 * `known` runs with the same values, only `changed` runs are read.
 */
export async function readProject(
  query: string,
  wanted: string,
  names: string[],
  signal: AbortSignal,
  known?: Pick<FoundRuns, 'runs' | 'warnings' | 'count'> & { seriesNames: string[] },
  changed: ReadonlySet<string> = new Set(),
) {
  const sample = await sampleRuns(query, signal);
  const decoded = sample.map(run => ({ ...run, params: decodeMap(run.params) }));
  const usual = defaultColumns(decoded, MAX_PARAMS);
  const metric = parseColumn(wanted) ?? usual.find(({ kind }) => kind === 'metric');
  const params = usual.filter(({ kind }) => kind === 'param');
  const tuned = params.filter(column => !isIdColumn(column));
  const axes = [...(tuned.length > 0 ? tuned : params), ...(metric ? [metric] : [])];
  const seriesNames = [...names, ...(metric?.kind === 'metric' ? [metric.name] : [])];
  const parts: RunParts = { props: true, params: true };
  if (seriesNames.length > 0)
    Object.assign(parts, { seriesTypes: [SeriesType.METRIC], seriesNames });
  const { runs, warnings, count } =
    known && known.seriesNames.join('\n') === seriesNames.join('\n')
      ? await rereadRuns(known, changed, parts, signal)
      : await findRuns(query, { parts, limit: MAX_RUNS, count: true }, signal);
  const rows = runs.map(run => ({ run, params: decodeMap(run.params) }));
  const all = [
    ...sample.flatMap(({ series }) => metricColumns(series)),
    ...(metric ? [metric] : []),
  ];
  const metrics = [...new Map(all.map(column => [columnText(column), column])).values()];
  return { query, runs, warnings, count, rows, axes, metric, metrics, seriesNames };
}
