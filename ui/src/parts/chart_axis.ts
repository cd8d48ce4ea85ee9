/** Where the buckets of a series are on the x axis of its chart. */
import type { StepValues } from '../api/epochs.ts';
import { lowerBound, type SeriesData } from '../api/series_data.ts';
import type { AxisKind, Extent } from '../plot/axis.ts';
import { isAscending } from '../plot/lines.ts';
import type { XAxis } from '../state/routes.ts';

export const KINDS: Record<XAxis, AxisKind> = {
  step: 'step',
  relative: 'duration',
  time: 'time',
  epoch: 'number',
  metric: 'number',
};

export function isTimeAxis(axis: XAxis): boolean {
  return axis === 'relative' || axis === 'time';
}

/** `values` are those of an epoch or another metric; without any the series has no place on such an axis. */
export function positions(
  axis: XAxis,
  { steps, times }: SeriesData,
  startMs: number,
  values: StepValues | undefined,
): Float64Array {
  if (axis === 'step') return steps;
  if (isTimeAxis(axis)) return times.map(us => us / 1000 - (axis === 'relative' ? startMs : 0));
  if (!values || values.steps.length === 0) return new Float64Array(0);
  return axis === 'epoch'
    ? steps.map(step => epochAt(values, step))
    : steps.map(step => valueAt(values, step));
}

/** The epoch lasts until the next one begins; within it points are at their share of its steps. */
function epochAt({ steps, values }: StepValues, step: number): number {
  const at = Math.max(0, lowerBound(steps, step + 1) - 1);
  const epoch = values[at] as number;
  let [first, next] = [at, at + 1];
  while (first > 0 && values[first - 1] === epoch) first -= 1;
  while (next < steps.length && values[next] === epoch) next += 1;
  const end = steps[next];
  const start = steps[first] as number;
  // The last epoch has no known end yet, so it gets the length of the one before it.
  const length = end !== undefined ? end - start : lengthBefore({ steps, values }, first);
  return length > 0 ? epoch + Math.min(Math.max((step - start) / length, 0), 1) : epoch;
}

function lengthBefore({ steps, values }: StepValues, first: number): number {
  let before = first - 1;
  while (before > 0 && values[before - 1] === values[first - 1]) before -= 1;
  return before < 0 ? 0 : (steps[first] as number) - (steps[before] as number);
}

/** The value of another metric at a step, between its neighbors; NaN outside of it. */
function valueAt({ steps, values }: StepValues, step: number): number {
  const at = lowerBound(steps, step);
  if (at >= steps.length) return NaN;
  const [right, high] = [steps[at] as number, values[at] as number];
  if (right === step) return high;
  if (at === 0) return NaN;
  const [left, low] = [steps[at - 1] as number, values[at - 1] as number];
  return low + ((high - low) * (step - left)) / (right - left);
}

/**
 * The steps of a part of an axis that is zoomed to, which the server needs for more detail; undefined if an axis goes
 * back. `lines` are what is shown without a zoom.
 */
export function stepsIn(
  { low, high }: Extent,
  axis: XAxis,
  lines: readonly { x: Float64Array; data: SeriesData }[],
): { from: number; to: number } | undefined {
  if (axis === 'step') return { from: Math.floor(low), to: Math.ceil(high) };
  const range = { from: Infinity, to: -Infinity };
  for (const { x, data } of lines) {
    // Without times, as after another axis was chosen, there is nothing to search.
    if (x.length === 0) continue;
    if (!isAscending(x)) return undefined;
    const first = Math.max(0, lowerBound(x, low) - 1);
    const last = Math.min(lowerBound(x, high), x.length - 1);
    range.from = Math.min(range.from, data.steps[first] as number);
    range.to = Math.max(range.to, data.steps[last] as number);
  }
  return range.from <= range.to ? range : undefined;
}
