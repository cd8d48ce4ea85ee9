/** How much one column of numbers depends on another. NaN stands for a run without a value. */

/** Ranks from 0; equal values share the mean of theirs, and what is no number has none. */
export function ranks(values: Float64Array): Float64Array {
  const known = Array.from(values.keys()).filter(at => !Number.isNaN(values[at]));
  const order = known.sort((a, b) => (values[a] as number) - (values[b] as number));
  const result = new Float64Array(values.length).fill(NaN);
  for (let first = 0, end = 0; first < order.length; first = end) {
    while (end < order.length && values[order[end] as number] === values[order[first] as number]) end += 1;
    for (let at = first; at < end; at++) result[order[at] as number] = (first + end - 1) / 2;
  }
  return result;
}

export interface Correlation {
  /** Correlation of the ranks, from −1 to 1; NaN if one of the columns is constant. */
  rho: number;
  runs: number;
}

/** Spearman's rank correlation: 1 if one grows whenever the other does, whatever the shape. */
export function rankCorrelation(a: Float64Array, b: Float64Array): Correlation {
  const hasBoth = (_: number, at: number): boolean => Number.isFinite(a[at]) && Number.isFinite(b[at]);
  const [left, right] = [ranks(a.filter(hasBoth)), ranks(b.filter(hasBoth))];
  const mean = (left.length - 1) / 2;
  let [xx, yy, xy] = [0, 0, 0];
  for (let at = 0; at < left.length; at++) {
    const [x, y] = [(left[at] as number) - mean, (right[at] as number) - mean];
    [xx, yy, xy] = [xx + x * x, yy + y * y, xy + x * y];
  }
  return { rho: xy / Math.sqrt(xx * yy), runs: left.length };
}
