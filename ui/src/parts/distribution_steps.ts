/** Distributions of several steps over the same bins, so that they can be shown side by side. */
import type { Distribution, Step } from '../gen/matyan/objects/v1/objects_pb.ts';

export interface DistributionSteps {
  steps: number[];
  low: number;
  high: number;
  /** For each step, the share of its values in each bin. */
  rows: Float64Array[];
  most: number;
}

const BINS = 64;

/** Each weight is spread evenly over its own bin. Steps without a distribution are left out. */
export function distributionSteps(
  all: readonly Step[],
  bins = BINS,
): DistributionSteps | undefined {
  const found = all.flatMap(({ step, objects }) => {
    const kind = objects[0]?.kind;
    if (kind?.case !== 'distribution' || kind.value.weights.length === 0) return [];
    const { low, high } = kind.value;
    return Number.isFinite(low) && Number.isFinite(high)
      ? [{ step: Number(step), ...kind.value }]
      : [];
  });
  if (found.length === 0) return undefined;
  const low = Math.min(...found.map(one => one.low));
  const high = Math.max(...found.map(one => one.high));
  const rows = found.map(one => spread(one, low, high, bins));
  const most = Math.max(...rows.map(row => row.reduce((a, b) => Math.max(a, b), 0)));
  return { steps: found.map(({ step }) => step), low, high, rows, most };
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
