/** Series as the rows of a heat map, whose columns are parts of the steps of all of them. */
import type { SeriesData } from '../api/series_data.ts';

export interface Heat {
  /** A row for each series, with a value or NaN for each column. */
  rows: Float64Array[];
  /** The last step of each column. */
  steps: Float64Array;
  /** Ends of the colors. The values beyond are few, and would leave one color to all others. */
  low: number;
  high: number;
}

/** Share of the values at each end that the colors do not reach. */
const BEYOND = 0.02;
const MAX_SAMPLE = 20_000;

/** Undefined without any value. */
export function heatOf(
  series: readonly (SeriesData | undefined)[],
  columns: number,
): Heat | undefined {
  const known = series.flatMap(one => (one && one.steps.length > 0 ? [one] : []));
  const first = Math.min(...known.map(({ steps }) => steps[0] as number));
  const last = Math.max(...known.map(({ steps }) => steps.at(-1) as number));
  if (known.length === 0) return undefined;
  const count = Math.max(1, Math.min(columns, last - first + 1));
  const width = (last - first + 1) / count;
  const rows = series.map(one => rowOf(one, first, width, count));
  const values = sampleOf(rows);
  if (values.length === 0) return undefined;
  const at = (share: number): number => values[Math.round(share * (values.length - 1))] as number;
  return {
    rows,
    steps: Float64Array.from({ length: count }, (_, at) => Math.ceil(first + (at + 1) * width) - 1),
    low: at(BEYOND),
    high: at(1 - BEYOND),
  };
}

/** The last value in each column; a bucket fills the columns since the bucket before. */
function rowOf(
  series: SeriesData | undefined,
  first: number,
  width: number,
  count: number,
): Float64Array {
  const row = new Float64Array(count).fill(NaN);
  let before = -1;
  for (const [at, step] of (series?.steps ?? []).entries()) {
    const column = Math.min(count - 1, Math.floor((step - first) / width));
    const start = series && series.width > 1 ? Math.min(before + 1, column) : column;
    row.fill(series?.last[at] ?? NaN, start, column + 1);
    before = column;
  }
  return row;
}

/** Finite values in ascending order, evenly from all of them. */
function sampleOf(rows: readonly Float64Array[]): Float64Array {
  const total = rows.reduce((sum, { length }) => sum + length, 0);
  const every = Math.max(1, Math.ceil(total / MAX_SAMPLE));
  let at = 0;
  const sample: number[] = [];
  for (const row of rows)
    for (const value of row) if (at++ % every === 0 && Number.isFinite(value)) sample.push(value);
  return Float64Array.from(sample).sort();
}

/** The level of a value from 0 on, below `levels`. */
export function levelOf({ low, high }: Heat, value: number, levels: number): number {
  const share = high > low ? (value - low) / (high - low) : 0.5;
  return Math.min(levels - 1, Math.max(0, Math.floor(share * levels)));
}
