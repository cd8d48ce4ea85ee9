/**
 * Columns of the runs table: properties, params, and values of metrics. Their text form is in the
 * URL.
 */
import { decodeMap, isMap, type CborValue } from '../../api/cbor.ts';
import { groupBy } from '../../collections.ts';
import { csvNumber, csvText } from '../../format/csv.ts';
import { metricTitle, plainContext, SYSTEM_PREFIX } from '../../format/context.ts';
import { importance, summaryPart } from '../../format/goals.svelte.ts';
import { isId, isKeptByClient } from '../../format/importance.ts';
import { statusText } from '../../format/status.ts';
import { milliseconds } from '../../format/time.ts';
import { comparable, plainText } from '../../format/value.ts';
import type { Props, Run, SeriesInfo } from '../../gen/matyan/runs/v1/run_pb.ts';

/** Properties of a run, with the title, width and values of their columns. */
const PROPS = {
  status: ['Status', 152, statusText],
  experiment: ['Experiment', 152, ({ experiment }) => experiment?.name],
  created: ['Created', 98, ({ createdUs }) => new Date(milliseconds(createdUs)).toISOString()],
  duration: [
    'Duration',
    116,
    ({ durationUs: us }) => (us === undefined ? us : milliseconds(us) / 1000),
  ],
  tags: ['Tags', 180, ({ tags }) => tagsText(tags.map(({ name }) => name))],
} satisfies Record<
  string,
  [title: string, width: number, value: (props: Props) => CborValue | undefined]
>;
type PropName = keyof typeof PROPS;

/**
 * Tags in the order of their names, as the server has them. Names that would look like others next
 * to them are in quotes, so that only equal tags have equal texts.
 */
function tagsText(names: readonly string[]): string | undefined {
  const isPlain = (name: string): boolean => /^[^\s,"]([^,"]*[^\s,"])?$/.test(name);
  const texts = names.toSorted().map(name => (isPlain(name) ? name : JSON.stringify(name)));
  return texts.join(', ') || undefined;
}

/** Properties that come after the results. */
const LATE: readonly PropName[] = ['duration', 'tags'];
const DATA_PX = 108;
/** Properties next to the values. */
const DIFFERENCE_PX = 56;
const MIN_PX = 48;

export type DataColumn =
  | { kind: 'prop'; name: PropName }
  | { kind: 'param'; segments: string[] }
  | { kind: 'metric'; name: string; context: string; value?: MetricPart };

/**
 * Prefixes of the texts of metric columns, and the values that the columns show. A curve is sorted
 * and exported by its last value.
 */
export const METRIC_PARTS = {
  metric: 'last value',
  min: 'lowest value',
  max: 'highest value',
  first: 'first value',
  curve: 'curve',
} as const;
type MetricPart = Exclude<keyof typeof METRIC_PARTS, 'metric'>;

export const PROP_COLUMNS: readonly DataColumn[] = Object.keys(PROPS).map(name => ({
  kind: 'prop',
  name: name as PropName,
}));

/** The column of the names, which is always the first. */
export const NAME_COLUMN = 'name';
const NAME_PX = 226;
/** On a phone the names leave room for a value. */
const PHONE_NAME_PX = 150;

export interface PlacedColumn {
  /** Absent for the names. */
  column?: DataColumn;
  text: string;
  title: string;
  width: number;
  /** Distance from the left edge at which a pinned column stays. */
  left?: string;
}

/**
 * The names, pinned columns and the others, the first at `left`. Widths that the reader chose are
 * like `created=120`.
 */
export function placeColumns(
  columns: readonly DataColumn[],
  widths: readonly string[],
  pinned: readonly string[],
  left: number,
  hasDifferences = false,
  isNarrow = false,
): PlacedColumn[] {
  const chosen = new Map(
    widths.map(text => [text.replace(/=\d+$/, ''), Number(/=(\d+)$/.exec(text)?.[1])]),
  );
  const widthOf = (text: string, usual: number): number =>
    Math.max(MIN_PX, chosen.get(text) || usual);
  const titles = distinctTitles(columns);
  const placed = columns.map((column): PlacedColumn => {
    const text = columnText(column);
    const dataPx = DATA_PX + (hasDifferences ? DIFFERENCE_PX : 0);
    const usual = column.kind === 'prop' ? PROPS[column.name][1] : dataPx;
    return { column, text, title: titles.get(text) ?? '', width: widthOf(text, usual) };
  });
  const namePx = isNarrow ? PHONE_NAME_PX : NAME_PX;
  const name = { text: NAME_COLUMN, title: 'Name', width: widthOf(NAME_COLUMN, namePx) };
  let end = left;
  const first = [name, ...placed.filter(({ text }) => pinned.includes(text))].map(one => {
    end += one.width;
    return { ...one, left: `${end - one.width}px` };
  });
  return [...first, ...placed.filter(({ text }) => !pinned.includes(text))];
}

/** The widths with a new width for one column. */
export function withWidth(widths: readonly string[], column: string, width: number): string[] {
  const others = widths.filter(text => text.replace(/=\d+$/, '') !== column);
  return [...others, `${column}=${Math.max(MIN_PX, width)}`];
}

/**
 * Reads `param:hparams.lr`, `metric:loss {"subset":"val"}` or `min:loss`. Backslashes protect
 * characters that would end a name.
 */
export function columnText(column: DataColumn): string {
  if (column.kind === 'prop') return column.name;
  if (column.kind === 'param') {
    return `param:${column.segments.map(segment => segment.replace(/[\\.]/g, '\\$&')).join('.')}`;
  }
  const name = column.name.replace(/[\\{]/g, '\\$&');
  return `${column.value ?? 'metric'}:${name}${column.context === '' ? '' : ` ${column.context}`}`;
}

export function parseColumn(text: string): DataColumn | undefined {
  const plain = (escaped: string): string => escaped.replace(/\\(.)/gs, '$1');
  if (text.startsWith('param:')) {
    const segments = text.slice('param:'.length).match(/(?:\\.|[^.\\])+/gs) ?? [];
    return { kind: 'param', segments: segments.map(plain) };
  }
  if (Object.hasOwn(PROPS, text)) return { kind: 'prop', name: text as PropName };
  const metric = /^(metric|min|max|first|curve):((?:\\.|[^{\\])*?)(?: (\{.*))?$/s.exec(text);
  if (!metric) return undefined;
  const [, value, name = '', context = ''] = metric;
  const own = { kind: 'metric' as const, name: plain(name), context };
  return value === 'metric' ? own : { ...own, value: value as MetricPart };
}

/**
 * The heading of a column: the last segment of a param, the name of a metric with the values of its
 * context.
 */
export function columnTitle(column: DataColumn): string {
  if (column.kind === 'prop') return PROPS[column.name][0];
  if (column.kind === 'param') return column.segments.at(-1) ?? '';
  return [metricTitle(column.name, column.context), column.value ?? ''].join(' ').trimEnd();
}

/**
 * The headings of columns next to each other, by their texts. Params with the same last segment get
 * as many segments as make them different.
 */
export function distinctTitles(columns: readonly DataColumn[]): Map<string, string> {
  const titles = new Map(columns.map(column => [columnText(column), columnTitle(column)]));
  const params = columns.filter(column => column.kind === 'param');
  const longest = Math.max(0, ...params.map(({ segments }) => segments.length));
  for (let count = 2; count <= longest; count++) {
    const uses = groupBy([...titles.values()], title => title);
    for (const column of params) {
      const text = columnText(column);
      if ((uses.get(titles.get(text) ?? '')?.length ?? 0) > 1)
        titles.set(text, column.segments.slice(-count).join('.'));
    }
  }
  return titles;
}

export function isGroupable(text: string): boolean {
  return ['experiment', 'status'].includes(text) || text.startsWith('param:');
}

/** Columns by which charts can be grouped: the text and title of each column. */
export function groupings(
  params: readonly { segments: string[] }[] = [],
): [text: string, title: string][] {
  return [
    ['experiment', 'Experiment'],
    ['status', 'Status'],
    ['tags', 'Tags'],
    ...params.map(({ segments }): [string, string] => [
      columnText({ kind: 'param', segments }),
      segments.join('.'),
    ]),
  ];
}

export function valueIn(
  { run, params }: { run: Run; params: CborValue },
  column: DataColumn,
): CborValue | undefined {
  if (column.kind === 'param') return paramAt(params, column.segments);
  if (column.kind === 'metric') {
    const { value = 'last' } = column;
    return seriesIn(run, column)?.[value === 'curve' ? 'last' : value];
  }
  return run.props && PROPS[column.name][2](run.props);
}

export function seriesIn(run: Run, column: DataColumn): SeriesInfo | undefined {
  return run.series.find(
    ({ name, context }) =>
      column.kind === 'metric' && name === column.name && plainContext(context) === column.context,
  );
}

/** The value of a run in a column as the title of a group; empty if it has none. */
export function groupText(run: Run, column: DataColumn): string {
  return plainText(valueIn({ run, params: decodeMap(run.params) }, column));
}

/** Runs as a table of separated values, exact to the bit. */
export function runsCsv(
  rows: readonly { run: Run; params: CborValue }[],
  columns: readonly DataColumn[],
) {
  const line = (cells: string[]): string => `${cells.map(csvText).join(',')}\n`;
  const lines = rows.map(row =>
    line([
      row.run.runId,
      row.run.props?.name ?? '',
      ...columns.map(column => {
        const value = valueIn(row, column);
        return typeof value === 'number' ? csvNumber(value) : plainText(value);
      }),
    ]),
  );
  const title = (column: DataColumn): string =>
    column.kind === 'param' ? column.segments.join('.') : columnTitle(column);
  return line(['run', 'name', ...columns.map(title)]) + lines.join('');
}

export function paramAt(params: CborValue, segments: readonly string[]): CborValue | undefined {
  let value: CborValue | undefined = params;
  for (const segment of segments) value = isMap(value) ? value[segment] : undefined;
  return value;
}

const MAX_PARAMS = 4;
const MAX_METRICS = 4;
/** Params of this group come first, because people compare them most. */
const HYPERPARAMETERS = 'hparams';

/**
 * Columns for a project for which the reader has not chosen any: the columns that most of some runs
 * have.
 */
export function defaultColumns(
  runs: readonly { params: CborValue; series: readonly SeriesInfo[] }[],
  maxParams = MAX_PARAMS,
): DataColumn[] {
  const counts = new Map<string, number>();
  for (const { params, series } of runs) {
    const columns: DataColumn[] = [
      ...metricColumns(series),
      ...scalarPaths(params)
        .filter(segments => !isKeptByClient(segments))
        .map(segments => ({ kind: 'param' as const, segments })),
    ];
    for (const text of columns.map(columnText)) counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  const most = Math.max(...counts.values());
  const chosen = [...counts].flatMap(([text, count]) => {
    const column = parseColumn(text);
    const isCommon = 2 * count >= most ? 1 : 0;
    return column
      ? [{ column, rank: [isCommon, isVaried(runs, column), interest(column), count] }]
      : [];
  });
  // Sorting is stable: columns of one rank keep the order in which they were logged.
  chosen.sort(
    ({ rank: a }, { rank: b }) => b.map((own, at) => own - (a[at] ?? 0)).find(by => by !== 0) ?? 0,
  );
  const first = (kind: string, count: number): DataColumn[] =>
    chosen.flatMap(({ column }) => (column.kind === kind ? [column] : [])).slice(0, count);
  return [...first('metric', MAX_METRICS), ...first('param', maxParams)];
}

/**
 * All properties and some data. Results come right after the properties that identify a run, and
 * then the params that may explain them.
 */
export function usualColumns(runs: Parameters<typeof defaultColumns>[0]): DataColumn[] {
  const data = defaultColumns(runs);
  const isResult = ({ kind }: DataColumn): boolean => kind === 'metric';
  const isLate = (column: DataColumn): boolean =>
    column.kind === 'prop' && LATE.includes(column.name);
  const results = data.filter(isResult);
  const params = data.filter(column => !isResult(column));
  const early = PROP_COLUMNS.filter(column => !isLate(column));
  return [...early, ...results, ...params, ...PROP_COLUMNS.filter(isLate)];
}

/**
 * Whether the values of a param differ, so that they may explain a result; the params of a single
 * run all count.
 */
function isVaried(runs: Parameters<typeof defaultColumns>[0], column: DataColumn): number {
  if (column.kind !== 'param' || runs.length < 2) return 1;
  const values = runs.flatMap(({ params }) => paramAt(params, column.segments) ?? []);
  return new Set(values.map(comparable)).size > 1 ? 1 : 0;
}

/**
 * Results before other metrics; hyperparameters before other params, the outer ones first, and ids
 * and seeds last.
 */
function interest(column: DataColumn): number {
  if (column.kind === 'metric') return importance(column.name, column.context);
  if (column.kind !== 'param') return 0;
  const depth = column.segments.length;
  if (isIdColumn(column)) return -100 - depth;
  return (column.segments[0] === HYPERPARAMETERS ? 100 : 0) - depth;
}

/** Whether a column tells runs apart without explaining a result. */
export function isIdColumn(column: DataColumn): boolean {
  return column.kind === 'param' && isId(column.segments.at(-1) ?? '');
}

/** The column with the value that stands for a run. */
export function metricColumn(name: string, context: string): DataColumn {
  const part = summaryPart(name);
  const column = { kind: 'metric' as const, name, context: plainContext(context) };
  return part === 'last' ? column : { ...column, value: part };
}

export function metricColumns(series: readonly SeriesInfo[]): DataColumn[] {
  return series
    .filter(({ name }) => !name.startsWith(SYSTEM_PREFIX))
    .map(({ name, context }) => metricColumn(name, context));
}

/** Paths of all values that are neither maps nor lists. */
export function scalarPaths(value: CborValue, path: readonly string[] = []): string[][] {
  if (isMap(value))
    return Object.entries(value).flatMap(([key, inner]) => scalarPaths(inner, [...path, key]));
  return Array.isArray(value) || value instanceof Uint8Array ? [] : [[...path]];
}

/** The columns of all params of some runs. */
export function paramColumns(runs: readonly { params: CborValue }[]): DataColumn[] {
  const texts = new Set(
    runs.flatMap(({ params }) =>
      scalarPaths(params).map(segments => columnText({ kind: 'param', segments })),
    ),
  );
  return [...texts].flatMap(text => parseColumn(text) ?? []);
}
