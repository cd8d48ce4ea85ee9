/** Distributions of several steps over the same bins, so that they can be shown side by side. */
import type { MediaSequence } from '../api/media.ts';
import type { Distribution, Step } from '../gen/matyan/objects/v1/objects_pb.ts';
import type { Extent } from '../plot/axis.ts';

export interface DistributionSteps {
  steps: number[];
  low: number;
  high: number;
  /** For each step, the share of its values in each bin. */
  rows: Float64Array[];
  most: number;
}

const BINS = 64;
/** Width of a bar of equal values, next to a wide distribution. */
const LEAST_BAR = 0.004;

/** Each weight is spread evenly over its own bin. Steps without a distribution are left out. */
export function distributionSteps(
  all: readonly Step[],
  bins = BINS,
): DistributionSteps | undefined {
  const found = all.flatMap(({ step, objects }) => {
    const kind = objects[0]?.kind;
    if (kind?.case !== 'distribution' || !isDrawable(kind.value)) return [];
    return [{ step: Number(step), ...kind.value }];
  });
  if (found.length === 0) return undefined;
  const low = Math.min(...found.map(one => one.low));
  const high = Math.max(...found.map(one => one.high));
  const rows = found.map(one => spread(one, low, high, bins));
  const most = Math.max(...rows.map(row => row.reduce((a, b) => Math.max(a, b), 0)));
  return { steps: found.map(({ step }) => step), low, high, rows, most };
}

function isDrawable({ weights, low, high }: Distribution): boolean {
  return weights.length > 0 && Number.isFinite(low) && Number.isFinite(high);
}

/** A key that the distributions of a name and context have in all steps and runs. */
export function distributionKey({
  name,
  context,
}: Pick<MediaSequence, 'name' | 'context'>): string {
  return JSON.stringify([name, context]);
}

/**
 * The range of all distributions of a name and context, by their key: with a range for each, a
 * spread that grows would look constant.
 */
export function distributionExtents(all: readonly MediaSequence[]): Map<string, Extent> {
  const extents = new Map<string, Extent>();
  for (const sequence of all) {
    const key = distributionKey(sequence);
    for (const { kind } of sequence.steps.flatMap(({ objects }) => objects)) {
      if (kind.case !== 'distribution' || !isDrawable(kind.value)) continue;
      const { low, high } = extents.get(key) ?? { low: Infinity, high: -Infinity };
      extents.set(key, {
        low: Math.min(low, kind.value.low),
        high: Math.max(high, kind.value.high),
      });
    }
  }
  return extents;
}

/** Bars of a distribution as one path, in a box of one by one that has the values of an extent. */
export function barPath({ weights, low, high }: Distribution, extent: Extent): string {
  const highest = Math.max(...weights, 0) || 1;
  const size = extent.high - extent.low;
  // Equal values fill the box, like a distribution by itself.
  const start = size > 0 ? (low - extent.low) / size : 0;
  const width = (size > 0 ? (high - low) / size : 1) / weights.length;
  return weights
    .map((weight, at) => {
      const top = 1 - Math.max(0, weight) / highest;
      return `M${start + at * width} 1V${top}h${Math.max(width, LEAST_BAR)}V1z`;
    })
    .join('');
}

function spread(own: Distribution, low: number, high: number, bins: number): Float64Array {
  const { weights, low: from, high: to } = own;
  const row = new Float64Array(bins);
  const total = weights.reduce((sum, weight) => sum + Math.max(0, weight), 0) || 1;
  const place = (value: number): number => (high > low ? ((value - low) * bins) / (high - low) : 0);
  const width = (to - from) / weights.length;
  for (const [at, weight] of weights.entries()) {
    const left = place(from + at * width);
    const right = Math.min(place(from + (at + 1) * width), bins);
    const share = Math.max(0, weight) / total;
    if (right <= left) {
      // All values are equal.
      row[Math.min(Math.floor(left), bins - 1)]! += share;
      continue;
    }
    for (let bin = Math.floor(left); bin < right; bin++) {
      const overlap = Math.min(right, bin + 1) - Math.max(left, bin);
      row[bin]! += (share * overlap) / (right - left);
    }
  }
  return row;
}
