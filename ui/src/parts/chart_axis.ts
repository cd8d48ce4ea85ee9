/** Where the buckets of a series are on the x axis of its chart. */
import type { StepValues } from '../api/epochs.ts';
import type { StepView } from '../api/series_cache.ts';
import { lowerBound, type SeriesData } from '../api/series_data.ts';
import type { SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import type { AxisKind, Extent } from '../plot/axis.ts';
import { isAscending } from '../plot/lines.ts';
import type { PlacedAxis } from '../state/routes.ts';

export const KINDS: Record<PlacedAxis, AxisKind> = {
  step: 'step',
  relative: 'duration',
  time: 'time',
  epoch: 'number',
  metric: 'number',
};

export function isTimeAxis(axis: PlacedAxis): boolean {
  return axis === 'relative' || axis === 'time';
}

/**
 * `values` are the values of an epoch or another metric; without values the series has no place on
 * such an axis.
 */
export function positions(
  axis: PlacedAxis,
  { steps, times }: SeriesData,
  startMs: number,
  values: StepValues | undefined,
): Float64Array {
  if (axis === 'step') return steps;
  if (isTimeAxis(axis)) return times.map(us => us / 1000 - (axis === 'relative' ? startMs : 0));
  if (!values || values.steps.length === 0) return new Float64Array(0);
  if (axis !== 'epoch') return steps.map(step => valueAt(values, step));
  const begins = (_: number, at: number): boolean => values.values[at] !== values.values[at - 1];
  const epochs = { steps: values.steps.filter(begins), values: values.values.filter(begins) };
  return steps.map(step => epochAt(epochs, step));
}

/**
 * An epoch lasts from its first step until the next epoch starts; points are at their share of its
 * steps.
 */
function epochAt({ steps, values }: StepValues, step: number): number {
  const at = Math.max(0, lowerBound(steps, step + 1) - 1);
  const before = steps[at - 1] ?? NaN;
  const start = steps[at] ?? NaN;
  const end = steps[at + 1];
  // The last epoch has no known end yet, so it gets the length of the epoch before.
  const length = end === undefined ? start - before : end - start;
  const share = length > 0 ? Math.min(Math.max((step - start) / length, 0), 1) : 0;
  return (values[at] as number) + share;
}

/** The value of another metric at a step, between its neighbors; NaN outside of it. */
function valueAt({ steps, values }: StepValues, step: number): number {
  const at = lowerBound(steps, step);
  if (at >= steps.length) return NaN;
  const right = steps[at] as number;
  const high = values[at] as number;
  if (right === step) return high;
  if (at === 0) return NaN;
  const left = steps[at - 1] as number;
  const low = values[at - 1] as number;
  return low + ((high - low) * (step - left)) / (right - left);
}

/**
 * A part of the steps that is zoomed to, and the next points on both sides, so that lines reach
 * the frame. The detail of the part stays the same. Without an end, the part grows with the lines.
 */
export function stepsAround(
  { low, high }: Partial<Extent>,
  all: readonly SeriesInfo[],
  pixels: number,
): StepView {
  const gaps = all.map(
    one => Number(one.lastStep - one.firstStep) / Math.max(1, Number(one.count) - 1),
  );
  const from = Math.floor(low ?? Math.min(...all.map(one => Number(one.firstStep))));
  const to = Math.ceil(high ?? Math.max(...all.map(one => Number(one.lastStep))));
  const own = Math.max(1, to - from);
  // A power of two mostly stays while series grow. More than the part itself would cost too much.
  const beside = Math.min(own, 2 ** Math.ceil(Math.log2(Math.max(1, ...gaps))));
  return {
    from: low === undefined ? undefined : from - beside,
    to: high === undefined ? undefined : to + beside,
    pixels: Math.round(pixels * (1 + (2 * beside) / own)),
  };
}

/**
 * Steps of a part that is zoomed to, for more detail, from `lines` without a zoom; undefined if an
 * axis goes back. Without an end, the part grows with the lines.
 */
export function stepsIn(
  { low, high }: Partial<Extent>,
  lines: readonly { x: Float64Array; data: SeriesData }[],
): Pick<StepView, 'from' | 'to'> | undefined {
  const range = { from: Infinity, to: -Infinity };
  for (const { x, data } of lines) {
    // Without times, for example after the reader chose another axis, there is nothing to search.
    if (x.length === 0) continue;
    if (!isAscending(x)) return undefined;
    const first = Math.max(0, lowerBound(x, low ?? -Infinity) - 1);
    const last = Math.min(lowerBound(x, high ?? Infinity), x.length - 1);
    range.from = Math.min(range.from, data.steps[first] as number);
    range.to = Math.max(range.to, data.steps[last] as number);
  }
  if (range.from > range.to) return undefined;
  return {
    from: low === undefined ? undefined : range.from,
    to: high === undefined ? undefined : range.to,
  };
}
