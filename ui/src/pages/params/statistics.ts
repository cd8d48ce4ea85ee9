/** How much one column of numbers depends on another. NaN stands for a run without a value. */
import { groupBy } from '../../collections.ts';

/**
 * Ranks from 0. Equal values share the mean of their ranks, and values that are no numbers have no
 * rank.
 */
export function ranks(values: Float64Array): Float64Array {
  const known = Array.from(values.keys()).filter(at => !Number.isNaN(values[at]));
  const order = known.sort((a, b) => (values[a] as number) - (values[b] as number));
  const result = new Float64Array(values.length).fill(NaN);
  for (let first = 0, end = 0; first < order.length; first = end) {
    while (end < order.length && values[order[end] as number] === values[order[first] as number])
      end += 1;
    for (let at = first; at < end; at++) result[order[at] as number] = (first + end - 1) / 2;
  }
  return result;
}

export interface Correlation {
  /** Correlation of the ranks, from −1 to 1; NaN if one of the columns is constant. */
  rho: number;
  runs: number;
}

/** The values of both columns in the runs that have both. */
function pairs(a: Float64Array, b: Float64Array): [Float64Array, Float64Array] {
  const hasBoth = (_: number, at: number): boolean =>
    Number.isFinite(a[at]) && Number.isFinite(b[at]);
  return [a.filter(hasBoth), b.filter(hasBoth)];
}

/**
 * Spearman's rank correlation: 1 if one column grows whenever the other column does, in any shape.
 */
export function rankCorrelation(a: Float64Array, b: Float64Array): Correlation {
  const [left, right] = pairs(a, b).map(ranks) as [Float64Array, Float64Array];
  const mean = (left.length - 1) / 2;
  let xx = 0;
  let yy = 0;
  let xy = 0;
  for (let at = 0; at < left.length; at++) {
    const x = (left[at] as number) - mean;
    const y = (right[at] as number) - mean;
    xx += x * x;
    yy += y * y;
    xy += x * y;
  }
  return { rho: xy / Math.sqrt(xx * yy), runs: left.length };
}

/**
 * The correlation ratio of ranks, from 0 to 1, without the share that chance alone gives to this
 * number of groups.
 */
export function groupCorrelation(groups: Float64Array, values: Float64Array): Correlation {
  const [own, known] = pairs(groups, values);
  const offsets = ranks(known).map(rank => rank - (own.length - 1) / 2);
  const members = [...groupBy([...own.keys()], at => own[at]).values()];
  const sum = (all: readonly number[]): number => all.reduce((total, one) => total + one, 0);
  const total = sum([...offsets].map(offset => offset ** 2));
  const between = sum(
    members.map(all => sum(all.map(at => offsets[at] as number)) ** 2 / all.length),
  );
  const share = ((own.length - 1) * between) / total - members.length + 1;
  const isKnown = members.length > 1 && members.length < own.length;
  const rho = isKnown ? Math.sqrt(Math.max(0, share / (own.length - members.length))) : NaN;
  return { rho, runs: own.length };
}
