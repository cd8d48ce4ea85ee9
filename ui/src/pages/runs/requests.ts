/** The requests of the runs table: parts of runs, their order, and groups with aggregates. */
import type { GroupsRequest, RunParts, RunsRequest } from '../../api/runs.ts';
import { isLowerBetter } from '../../format/goals.svelte.ts';
import { TOTAL_STEPS } from '../../format/silence.ts';
import { SeriesType } from '../../gen/matyan/common/v1/common_pb.ts';
import { GroupOrder, MetricValue, SortField } from '../../gen/matyan/search/v1/search_pb.ts';
import { columnText, parseColumn, type DataColumn } from './columns.ts';

/** Properties that two runs never share, so that the server does not group by them. */
const UNIQUE = ['created', 'duration'];

/**
 * A request for groups with one group for each value of a column; undefined: every run has its own
 * value.
 */
export function valuesFor(column: DataColumn): GroupsRequest | undefined {
  const text = columnText(column);
  if (UNIQUE.includes(text)) return undefined;
  const tags = { by: { case: 'field' as const, value: SortField.TAGS } };
  return { by: [serverValue(text) ?? tags], limit: 1 };
}

export function isSortable(column: DataColumn): boolean {
  return column.kind !== 'prop' || column.name in FIXED_SORTS;
}

const FIXED_SORTS: Record<string, SortField> = {
  created: SortField.CREATED,
  duration: SortField.DURATION,
  status: SortField.OUTCOME,
  name: SortField.NAME,
  experiment: SortField.EXPERIMENT,
};
const VALUES = { min: MetricValue.MIN, max: MetricValue.MAX, first: MetricValue.FIRST };

/** The parts of a run that some columns need. */
export function partsFor(columns: readonly DataColumn[]): RunParts {
  const seriesKeys = columns.filter(column => column.kind === 'metric');
  return {
    props: true,
    paramPaths: [{ segments: TOTAL_STEPS }, ...columns.filter(column => column.kind === 'param')],
    ...(seriesKeys.length > 0 && { seriesTypes: [SeriesType.METRIC], seriesKeys }),
  };
}

/**
 * The values of a column for the server; undefined if it has none to sort, group or aggregate by.
 */
function serverValue(text: string) {
  const field = FIXED_SORTS[text];
  if (field !== undefined) return { by: { case: 'field' as const, value: field } };
  const column = parseColumn(text);
  if (column?.kind === 'param')
    return { by: { case: 'param' as const, value: { segments: column.segments } } };
  if (column?.kind !== 'metric') return undefined;
  const { name, context, value } = column;
  const metricValue = value && value !== 'curve' ? VALUES[value] : MetricValue.LAST;
  return { by: { case: 'metric' as const, value: { name, context } }, metricValue };
}

/** The order of texts such as `-created` or `metric:loss`, the most significant text first. */
export function sortFor(texts: readonly string[]): NonNullable<RunsRequest['sort']> {
  return texts.flatMap(text => {
    const value = serverValue(text.replace(/^-/, ''));
    return value ? [{ ...value, descending: text.startsWith('-') }] : [];
  });
}

/**
 * Sorts names from the start of the alphabet, losses from the lowest value, and other numbers from
 * the highest. The third click removes an added key.
 */
export function nextSort(sort: readonly string[], text: string, isAdded: boolean): string[] {
  const column = parseColumn(text);
  const isRising =
    column?.kind === 'metric'
      ? isLowerBetter(column.name)
      : ['name', 'experiment', 'status'].includes(text);
  const [first, second] = isRising ? [text, `-${text}`] : [`-${text}`, text];
  // The usual order has no ties to resolve.
  if (!isAdded || sort.join() === '-created') return [sort.join() === first ? second : first];
  if (sort.includes(first)) return sort.map(one => (one === first ? second : one));
  return sort.includes(second) ? sort.filter(one => one !== second) : [...sort, first];
}

/** At most; the server has these limits. */
export const MAX_GROUPINGS = 3;
const MAX_AGGREGATES = 16;

/**
 * The metric columns to aggregate over groups, starting with the column by which the table is
 * sorted.
 */
export function aggregated(columns: readonly DataColumn[], sort: string): string[] {
  const texts = columns.filter(({ kind }) => kind === 'metric').map(columnText);
  const first = texts.filter(text => text === sort.replace(/^-/, ''));
  return [...new Set([...first, ...texts])].slice(0, MAX_AGGREGATES);
}

/**
 * Groups by some columns, in the order of a column, which can be the first aggregate or the first
 * of `by`.
 */
export function groupsFor(
  by: readonly string[],
  aggregates: readonly string[],
  sort: string,
): GroupsRequest {
  const text = sort.replace(/^-/, '');
  const isByMetric = aggregates[0] === text;
  return {
    by: by.flatMap(one => serverValue(one) ?? []),
    aggregates: aggregates.flatMap(one => {
      const { by: of, metricValue } = serverValue(one) ?? {};
      return of ? [{ of, metricValue: metricValue ?? MetricValue.LAST }] : [];
    }),
    order: isByMetric ? GroupOrder.MEAN : GroupOrder.VALUES,
    descending: sort.startsWith('-') && (isByMetric || text === by[0]),
  };
}
