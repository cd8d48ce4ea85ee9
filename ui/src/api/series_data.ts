/**
 * A series as a chart draws it: one entry per bucket of steps, in columns. Buckets of one series
 * may differ in width, because points that arrive later are appended at their own resolution.
 * Minimum and maximum always cover every point, also after buckets were merged, so that no spike is
 * lost.
 */
import { sharedZeros } from './column_memory.ts';
import type { BucketColumns } from './columns.ts';

export interface SeriesData {
  /** Steps per bucket of the widest bucket, a power of two; 1: every entry is a point. */
  width: number;
  /** Last step of each bucket, ascending. */
  steps: Float64Array;
  /**
   * Time of the last step, in microseconds since the Unix epoch; no values if the view has no
   * times.
   */
  times: Float64Array;
  min: Float64Array;
  max: Float64Array;
  last: Float64Array;
  /** Numbers of non-finite points. */
  nan: Uint32Array;
  positiveInfinity: Uint32Array;
  negativeInfinity: Uint32Array;
}

const COUNT_NAMES = ['nan', 'positiveInfinity', 'negativeInfinity'] as const;
const COLUMN_NAMES = ['steps', 'times', 'min', 'max', 'last', ...COUNT_NAMES] as const;

export const EMPTY_SERIES: SeriesData = allocate(0, 1);

export function seriesData(columns: BucketColumns): SeriesData {
  const length = columns.lastStep.length;
  return {
    width: Math.max(columns.width, 1),
    steps: columns.lastStep,
    times: columns.lastTime,
    min: columns.min,
    max: columns.max,
    last: columns.last,
    nan: filled(columns.nan, length),
    positiveInfinity: filled(columns.positiveInfinity, length),
    negativeInfinity: filled(columns.negativeInfinity, length),
  };
}

/** Servers omit these columns for series whose values are all finite. */
function filled(counts: Uint32Array, length: number): Uint32Array {
  return counts.length === length ? counts : sharedZeros(length);
}

export function byteSize(data: SeriesData): number {
  return data.steps.length * (5 * 8 + 3 * 4);
}

const NO_TIMES = new Float64Array(0);

function hasTimes({ steps, times }: SeriesData): boolean {
  return times.length === steps.length;
}

/** Index of the first bucket whose last step is at least `step`. */
export function lowerBound(steps: Float64Array, step: number): number {
  let low = 0;
  let high = steps.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((steps[middle] as number) < step) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Start of the last bucket, from which a grown series is read; undefined for an empty series. */
export function tailStart(data: SeriesData): number | undefined {
  const last = data.steps.at(-1);
  return last === undefined ? undefined : Math.floor(last / data.width) * data.width;
}

/** Replaces everything from step `start` on, a multiple of the width of `data`, with `tail`. */
export function extend(data: SeriesData, start: number, tail: SeriesData): SeriesData {
  const kept = lowerBound(data.steps, start);
  const joined = allocate(kept + tail.steps.length, Math.max(data.width, tail.width));
  for (const name of COLUMN_NAMES) {
    joined[name].set(data[name].subarray(0, kept) as never);
    joined[name].set(tail[name] as never, kept);
  }
  return hasTimes(data) && hasTimes(tail) ? joined : { ...joined, times: NO_TIMES };
}

export function coarsen(data: SeriesData, limit: number): SeriesData {
  const first = data.steps[0];
  const last = data.steps.at(-1);
  if (first === undefined || last === undefined || data.steps.length <= limit) return data;
  let width = data.width;
  while (Math.floor(last / width) - Math.floor(first / width) + 1 > limit) width *= 2;
  const merged = allocate(limit, width);
  let count = 0;
  let bucket = NaN;
  for (let at = 0; at < data.steps.length; at++) {
    const own = Math.floor((data.steps[at] as number) / width);
    if (own !== bucket) {
      bucket = own;
      merged.min[count] = NaN;
      merged.max[count] = NaN;
      count += 1;
    }
    const into = count - 1;
    merged.steps[into] = data.steps[at] as number;
    merged.times[into] = data.times[at] as number;
    merged.last[into] = data.last[at] as number;
    merged.min[into] = lesser(merged.min[into] as number, data.min[at] as number);
    merged.max[into] = -lesser(-(merged.max[into] as number), -(data.max[at] as number));
    for (const name of COUNT_NAMES) {
      merged[name][into] = (merged[name][into] as number) + (data[name][at] as number);
    }
  }
  for (const name of COLUMN_NAMES) merged[name] = merged[name].subarray(0, count) as never;
  return hasTimes(data) ? merged : { ...merged, times: NO_TIMES };
}

/** The smaller number; NaN only if both are. */
function lesser(a: number, b: number): number {
  return b < a || Number.isNaN(a) ? b : a;
}

function allocate(length: number, width: number): SeriesData {
  const counts: readonly string[] = COUNT_NAMES;
  const column = (name: string): Float64Array | Uint32Array =>
    counts.includes(name) ? new Uint32Array(length) : new Float64Array(length);
  return {
    width,
    ...Object.fromEntries(COLUMN_NAMES.map(name => [name, column(name)])),
  } as unknown as SeriesData;
}
