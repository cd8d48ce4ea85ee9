/**
 * Several lines as one: their center and a band. Between its points, a line counts with an
 * interpolated value.
 */
import { isAscending } from '../plot/lines.ts';
import { EMPTY_SERIES, type SeriesData } from '../api/series_data.ts';

export type Center = 'mean' | 'median';
/** Lowest and highest value; standard deviation; 95 % confidence interval of the mean. */
export type BandKind = 'extremes' | 'deviation' | 'confidence';

export interface Member {
  x: Float64Array;
  data: SeriesData;
}

export interface Band {
  x: Float64Array;
  center: Float64Array;
  /** NaN where there are too few lines. */
  low: Float64Array;
  high: Float64Array;
  counts: Uint32Array;
}

/** More places than pixels would not be seen. */
const MAX_PLACES = 1_000;

export function band(members: readonly Member[], center: Center, kind: BandKind): Band {
  const own = members.map(sorted);
  const x = places(own);
  const result: Band = {
    x,
    center: new Float64Array(x.length),
    low: new Float64Array(x.length),
    high: new Float64Array(x.length),
    counts: new Uint32Array(x.length),
  };
  const readers = own.map(member => new Reader(member));
  for (const [at, place] of x.entries()) {
    const values: number[] = [];
    const lows: number[] = [];
    const highs: number[] = [];
    for (const reader of readers) {
      const value = reader.moveTo(place);
      if (Number.isNaN(value)) continue;
      values.push(value);
      lows.push(reader.low);
      highs.push(reader.high);
    }
    const { mean, spread } = moments(values, kind);
    result.counts[at] = values.length;
    result.center[at] = center === 'median' ? median(values) : mean;
    const isExtremes = kind === 'extremes' && values.length > 0;
    result.low[at] = isExtremes ? Math.min(...lows) : mean - spread;
    result.high[at] = isExtremes ? Math.max(...highs) : mean + spread;
  }
  return result;
}

/**
 * The center as a series, whose steps are its places. Its width says whether the lines were
 * thinned.
 */
export function bandData({ x, center }: Band, members: readonly Member[]): SeriesData {
  const width = Math.max(1, ...members.map(({ data }) => data.width));
  return { ...EMPTY_SERIES, width, steps: x, times: x, min: center, max: center, last: center };
}

/** Another metric as the x axis may go back. */
function sorted(member: Member): Member {
  const { x, data } = member;
  if (isAscending(x)) return member;
  const order = Array.from(x.keys())
    .filter(at => !Number.isNaN(x[at]))
    .sort((a, b) => (x[a] as number) - (x[b] as number));
  const pick = (column: Float64Array): Float64Array =>
    Float64Array.from(order, at => column[at] as number);
  return {
    x: pick(x),
    data: { ...data, min: pick(data.min), max: pick(data.max), last: pick(data.last) },
  };
}

/** All places of all lines, or evenly spread places if there are too many. */
function places(members: readonly Member[]): Float64Array {
  const all = new Set<number>();
  let low = Infinity;
  let high = -Infinity;
  for (const { x } of members) {
    if (x.length === 0) continue;
    low = Math.min(low, x[0] as number);
    high = Math.max(high, x.at(-1) as number);
    if (all.size <= MAX_PLACES) for (const place of x) all.add(place);
  }
  if (all.size <= MAX_PLACES) return Float64Array.from(all).sort();
  return Float64Array.from(
    { length: MAX_PLACES },
    (_, at) => low + ((high - low) * at) / (MAX_PLACES - 1),
  );
}

class Reader {
  /** Extremes of the line since the last place, so that no spike between two places is lost. */
  low = NaN;
  high = NaN;
  /** The last finite point at or before the place. */
  #before = -1;
  #at = 0;

  constructor(readonly member: Member) {}

  moveTo(place: number): number {
    const { x, data } = this.member;
    this.low = Infinity;
    this.high = -Infinity;
    while (this.#at < x.length && (x[this.#at] as number) <= place) {
      if (Number.isFinite(data.last[this.#at])) this.#before = this.#at;
      this.#include(data.min[this.#at] as number, data.max[this.#at] as number);
      this.#at += 1;
    }
    const value = this.#between(place);
    this.#include(value, value);
    return value;
  }

  #include(low: number, high: number): void {
    if (low < this.low) this.low = low;
    if (high > this.high) this.high = high;
  }

  #between(place: number): number {
    const { x, data } = this.member;
    if (this.#before < 0) return NaN;
    const left = x[this.#before] as number;
    const before = data.last[this.#before] as number;
    if (left === place) return before;
    let next = this.#at;
    while (next < x.length && !Number.isFinite(data.last[next])) next += 1;
    if (next >= x.length) return NaN;
    const right = x[next] as number;
    return before + (((data.last[next] as number) - before) * (place - left)) / (right - left);
  }
}

/** Fewer lines have no band: an interval of two would be a dozen deviations wide. */
const LEAST = { deviation: 2, confidence: 3 };

function moments(values: readonly number[], kind: BandKind): { mean: number; spread: number } {
  const count = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  if (kind === 'extremes') return { mean, spread: 0 };
  if (count < LEAST[kind]) return { mean, spread: NaN };
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const deviation = Math.sqrt(squares / (count - 1));
  return {
    mean,
    spread: kind === 'deviation' ? deviation : (quantile(count - 1) * deviation) / Math.sqrt(count),
  };
}

function median(values: readonly number[]): number {
  const order = [...values].sort((a, b) => a - b);
  const middle = order.length >> 1;
  const upper = order[middle] ?? NaN;
  return order.length % 2 === 1 ? upper : ((order[middle - 1] ?? NaN) + upper) / 2;
}

/** Student's t for 95 %, by degrees of freedom from 1; values beyond the table are interpolated. */
const QUANTILES = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145,
  2.131, 2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048,
  2.045, 2.042,
];
const NORMAL = 1.96;

function quantile(freedom: number): number {
  // The distance to the normal distribution is nearly proportional to the inverse of the degrees of
  // freedom.
  return QUANTILES[freedom - 1] ?? NORMAL + 2.4 / freedom;
}
