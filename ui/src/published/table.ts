/** Orders and groups of copied runs, as the search of a server has them. */
import { create } from '@bufbuild/protobuf';

import { isMap, type CborValue } from '../api/cbor.ts';
import { groupBy } from '../collections.ts';
import { plainContext } from '../format/context.ts';
import { statusText } from '../format/status.ts';
import type { SeriesKey } from '../gen/matyan/common/v1/common_pb.ts';
import type { ParamPath, Run } from '../gen/matyan/runs/v1/run_pb.ts';
import {
  GroupOrder,
  GroupSchema,
  MetricValue,
  SortField,
  type Aggregate,
  type Group,
  type GroupsRequest,
  type Sort,
} from '../gen/matyan/search/v1/search_pb.ts';

/** A run, and its params as a server sends them to tables. */
export interface CopiedRow {
  run: Run;
  params: { [key: string]: CborValue };
}

/** A value to order or group by; undefined: the run has none. */
type Scalar = string | number | bigint | boolean | undefined;

/** The value that a sort key, a group or an aggregate refers to. */
type Source = {
  by:
    | { case: 'field'; value: SortField }
    | { case: 'param'; value: ParamPath }
    | { case: 'metric'; value: SeriesKey }
    | { case: undefined; value?: undefined };
  metricValue: MetricValue;
};

const PARTS = {
  [MetricValue.UNSPECIFIED]: 'last',
  [MetricValue.LAST]: 'last',
  [MetricValue.FIRST]: 'first',
  [MetricValue.MIN]: 'min',
  [MetricValue.MAX]: 'max',
} as const;

/** The value of a run, at the time of the copy. */
function valueOf({ run, params }: CopiedRow, { by, metricValue }: Source, nowUs: bigint): Scalar {
  if (by.case === 'field') return propertyOf(run, by.value, nowUs);
  if (by.case === 'param') return scalarAt(params, by.value.segments);
  if (by.case !== 'metric') return undefined;
  const { name, context } = by.value;
  const series = run.series.find(
    one => one.name === name && plainContext(one.context) === plainContext(context),
  );
  const value = series?.[PARTS[metricValue]];
  return Number.isNaN(value) ? undefined : value;
}

function propertyOf({ runId, props }: Run, field: SortField, nowUs: bigint): Scalar {
  const created = props?.createdUs ?? 0n;
  const tags = props?.tags.map(({ name }) => name).sort();
  switch (field) {
    case SortField.CREATED:
      return created;
    case SortField.DURATION:
      return props?.active ? nowUs - created : props?.durationUs;
    case SortField.NAME:
      return props?.name ?? '';
    case SortField.RUN_ID:
      return runId;
    case SortField.EXPERIMENT:
      return props?.experiment?.name ?? '';
    case SortField.DESCRIPTION:
      return props?.description ?? '';
    case SortField.ENDED:
      return props?.endedUs;
    case SortField.OUTCOME:
      return props && statusText(props);
    case SortField.TAGS:
      return tags?.join(', ') || undefined;
    default:
      return undefined;
  }
}

function scalarAt(params: CborValue, segments: readonly string[]): Scalar {
  let value: CborValue | undefined = params;
  for (const segment of segments) value = isMap(value) ? value[segment] : undefined;
  if (value === null || typeof value === 'object') return undefined;
  return typeof value === 'number' && Number.isNaN(value) ? undefined : value;
}

/** Numbers come before texts, and what is missing comes last, in both directions. */
function compare(a: Scalar, b: Scalar, isDescending: boolean): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined);
  const sign = isDescending ? -1 : 1;
  const isTextA = typeof a === 'string';
  const isTextB = typeof b === 'string';
  if (isTextA !== isTextB) return sign * (Number(isTextA) - Number(isTextB));
  return a < b ? -sign : a > b ? sign : 0;
}

/** The rows in an order, without which they stay in theirs. Ties are resolved by the ids of the runs. */
export function sorted<R extends CopiedRow>(
  rows: readonly R[],
  sort: readonly Pick<Sort, 'by' | 'metricValue' | 'descending'>[],
  nowUs: bigint,
): readonly R[] {
  if (sort.length === 0) return rows;
  const keyed = rows.map(row => ({ row, keys: sort.map(one => valueOf(row, one, nowUs)) }));
  keyed.sort((a, b) => {
    for (const [at, { descending }] of sort.entries()) {
      const order = compare(a.keys[at], b.keys[at], descending);
      if (order !== 0) return order;
    }
    return a.row.run.runId < b.row.run.runId ? -1 : 1;
  });
  return keyed.map(({ row }) => row);
}

/** A group with its runs. */
export interface CopiedGroup {
  group: Group;
  rows: readonly CopiedRow[];
}

/** All groups of a request, in its order. */
export function grouped(
  rows: readonly CopiedRow[],
  { by, aggregates, order, orderAggregate, descending, prefix }: GroupsRequest,
  nowUs: bigint,
): CopiedGroup[] {
  const named = by.map(one => JSON.stringify([one.by.case, plainKey(one.by.value)]));
  const valuesOf = (row: CopiedRow): Scalar[] => by.map(one => valueOf(row, one, nowUs));
  const keyed = rows.map(row => ({ row, values: valuesOf(row) }));
  const parts = groupBy(keyed, ({ values }) => JSON.stringify(values.map(keyOf)));
  const groups = [...parts].map(([key, members]) => {
    const own = members.map(({ row }) => row);
    const values = members[0]?.values ?? [];
    const group = create(GroupSchema, {
      values: values.map(value => ({ value: groupValue(value) })),
      runCount: BigInt(own.length),
      aggregates: aggregates.map(one => aggregateOf(own, one, nowUs)),
      token: JSON.stringify([named, key]),
    });
    return { group, rows: own, values };
  });
  const wanted = groups.filter(({ values: [first] }) => prefix === '' || startsWith(first, prefix));
  wanted.sort((a, b) => {
    const [first, second] = [a, b].map(one => rankOf(one.group, order, orderAggregate));
    const ranked = compare(first, second, descending);
    return ranked === 0 ? compareAll(a.values, b.values, descending) : ranked;
  });
  return wanted;
}

function startsWith(value: Scalar, prefix: string): boolean {
  return typeof value === 'string' && value.startsWith(prefix);
}

function compareAll(a: readonly Scalar[], b: readonly Scalar[], isDescending: boolean): number {
  for (const [at, value] of a.entries()) {
    const order = compare(value, b[at], isDescending);
    if (order !== 0) return order;
  }
  return 0;
}

/** The rank of a group in an order that is not by its values. */
function rankOf({ runCount, aggregates }: Group, order: GroupOrder, at: number): Scalar {
  const { mean, min, max } = aggregates[at] ?? {};
  if (order === GroupOrder.COUNT) return runCount;
  if (order === GroupOrder.MEAN) return mean;
  if (order === GroupOrder.MIN) return min;
  return order === GroupOrder.MAX ? max : undefined;
}

/** Numbers that are equal are one value, whatever their type is. */
function keyOf(value: Scalar): unknown {
  if (value === undefined) return null;
  return typeof value === 'string' ? ['text', value] : ['number', String(Number(value))];
}

function plainKey(value: Source['by']['value']): unknown {
  if (value === undefined || typeof value === 'number') return value;
  return 'segments' in value ? value.segments : [value.name, plainContext(value.context)];
}

function groupValue(value: Scalar) {
  if (value === undefined) return { case: undefined };
  if (typeof value === 'string') return { case: 'text' as const, value };
  if (typeof value === 'boolean') return { case: 'flag' as const, value };
  if (typeof value === 'bigint') return { case: 'integer' as const, value };
  return Number.isSafeInteger(value)
    ? { case: 'integer' as const, value: BigInt(value) }
    : { case: 'number' as const, value };
}

function aggregateOf(rows: readonly CopiedRow[], { of, metricValue }: Aggregate, nowUs: bigint) {
  const all = rows.flatMap(row => {
    const value = valueOf(row, { by: of, metricValue } as Source, nowUs);
    const number = typeof value === 'string' || value === undefined ? NaN : Number(value);
    return Number.isFinite(number) ? [number] : [];
  });
  if (all.length === 0) return { count: 0n };
  return {
    count: BigInt(all.length),
    mean: all.reduce((sum, one) => sum + one, 0) / all.length,
    min: all.reduce((low, one) => Math.min(low, one)),
    max: all.reduce((high, one) => Math.max(high, one)),
  };
}
