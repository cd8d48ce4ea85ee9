/** Columns of the runs table that come from the data: params and last values of metrics. Their text form is in the URL. */
import { isMap, type CborValue } from '../../api/cbor.ts';
import type { RunParts, RunSort } from '../../api/runs.ts';
import { SeriesType } from '../../gen/matyan/common/v1/common_pb.ts';
import { metricTitle, plainContext, SYSTEM_PREFIX } from '../../format/context.ts';
import type { SeriesInfo } from '../../gen/matyan/runs/v1/run_pb.ts';
import { SortField } from '../../gen/matyan/search/v1/search_pb.ts';

export type DataColumn =
  { kind: 'param'; segments: string[] } | { kind: 'metric'; name: string; context: string };

const FIXED_SORTS: Record<string, SortField> = {
  created: SortField.CREATED,
  duration: SortField.DURATION,
  name: SortField.NAME,
  experiment: SortField.EXPERIMENT,
};

/** `param:hparams.lr`, or `metric:loss {"subset":"val"}`; backslashes protect what would end a segment or a name. */
export function columnText(column: DataColumn): string {
  if (column.kind === 'param') {
    return `param:${column.segments.map(segment => segment.replace(/[\\.]/g, '\\$&')).join('.')}`;
  }
  return `metric:${column.name.replace(/[\\{]/g, '\\$&')}${column.context === '' ? '' : ` ${column.context}`}`;
}

export function parseColumn(text: string): DataColumn | undefined {
  const plain = (escaped: string): string => escaped.replace(/\\(.)/gs, '$1');
  if (text.startsWith('param:')) {
    const segments = text.slice('param:'.length).match(/(?:\\.|[^.\\])+/gs) ?? [];
    return { kind: 'param', segments: segments.map(plain) };
  }
  const metric = /^metric:((?:\\.|[^{\\])*?)(?: (\{.*))?$/s.exec(text);
  return metric ? { kind: 'metric', name: plain(metric[1] ?? ''), context: metric[2] ?? '' } : undefined;
}

/** The heading of a column: the last segment of a param, the name of a metric with the values of its context. */
export function columnTitle(column: DataColumn): string {
  return column.kind === 'param' ? (column.segments.at(-1) ?? '') : metricTitle(column.name, column.context);
}

/** The parts of a run that some columns need. */
export function partsFor(columns: readonly DataColumn[]): RunParts {
  const params = columns.filter(column => column.kind === 'param');
  const names = [...new Set(columns.filter(column => column.kind === 'metric').map(({ name }) => name))];
  return {
    props: true,
    paramPaths: params.map(({ segments }) => ({ segments })),
    ...(names.length > 0 && { seriesTypes: [SeriesType.METRIC], seriesNames: names }),
  };
}

/** The order that a sort text such as `-created` or `metric:loss` stands for. */
export function sortFor(text: string): RunSort[] {
  const descending = text.startsWith('-');
  const name = descending ? text.slice(1) : text;
  const field = FIXED_SORTS[name];
  // Newest first is the order of an unsorted search, which costs nothing.
  if (name === 'created' && descending) return [];
  if (field !== undefined) return [{ by: { case: 'field', value: field }, descending }];
  const column = parseColumn(name);
  if (column?.kind === 'param')
    return [{ by: { case: 'param', value: { segments: column.segments } }, descending }];
  if (column)
    return [{ by: { case: 'metric', value: { name: column.name, context: column.context } }, descending }];
  return [];
}

export function paramAt(params: CborValue, segments: readonly string[]): CborValue | undefined {
  let value: CborValue | undefined = params;
  for (const segment of segments) value = isMap(value) ? value[segment] : undefined;
  return value;
}

const MAX_PARAMS = 4;
const MAX_METRICS = 4;
/** Params of this group come first, as people compare them most. */
const HYPERPARAMETERS = 'hparams';

/** Columns for a project that the reader has not chosen any for: what most of some runs have. */
export function defaultColumns(
  runs: readonly { params: CborValue; series: readonly SeriesInfo[] }[],
): DataColumn[] {
  const counts = new Map<string, number>();
  for (const { params, series } of runs) {
    const metrics = series.filter(({ name }) => !name.startsWith(SYSTEM_PREFIX));
    const columns: DataColumn[] = [
      ...metrics.map(({ name, context }) => ({
        kind: 'metric' as const,
        name,
        context: plainContext(context),
      })),
      ...scalarPaths(params).map(segments => ({ kind: 'param' as const, segments })),
    ];
    for (const text of columns.map(columnText)) counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  const isHyperparameter = (text: string): number => (text.startsWith(`param:${HYPERPARAMETERS}.`) ? 1 : 0);
  // Sorting is stable: equally frequent columns keep the order in which they were logged.
  const byUse = [...counts].sort(([a, m], [b, n]) => n - m || isHyperparameter(b) - isHyperparameter(a));
  const chosen = byUse.map(([text]) => parseColumn(text)).filter(column => column !== undefined);
  return [
    ...chosen.filter(({ kind }) => kind === 'metric').slice(0, MAX_METRICS),
    ...chosen.filter(({ kind }) => kind === 'param').slice(0, MAX_PARAMS),
  ];
}

/** Paths of all values that are neither maps nor lists. */
export function scalarPaths(value: CborValue, path: readonly string[] = []): string[][] {
  if (isMap(value))
    return Object.entries(value).flatMap(([key, inner]) => scalarPaths(inner, [...path, key]));
  return Array.isArray(value) || value instanceof Uint8Array ? [] : [[...path]];
}
