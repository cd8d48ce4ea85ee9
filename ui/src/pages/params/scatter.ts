/** A scatter plot of two columns: places of the runs, and the straight line that fits them best. */
import { hash } from '../../plot/palette.ts';
import { placeOf, type ParamAxis } from './axes.ts';
import { rankCorrelation } from './statistics.ts';

export interface Dot {
  run: number;
  /** Places on both axes, 0 to 1. */
  x: number;
  y: number;
  /** Whether it is off the scale, so that a place is only the end of an axis. */
  isClamped: boolean;
}

/** Share of the room of a category over which its dots spread. */
const SPREAD = 0.5;

/**
 * The runs that have a value on both axes, from left to right. Dots of one category are next to
 * each other.
 */
export function dots(x: ParamAxis, y: ParamAxis, ids: readonly string[]): Dot[] {
  const place = (axis: ParamAxis, run: number, seed: string): number => {
    const at = placeOf(axis, axis.values[run] as number);
    // The same run is always at the same place.
    const shift = axis.categories.length > 0 ? hash(`${seed}${ids[run]}`) / 2 ** 32 - 0.5 : 0;
    return at + (shift * SPREAD) / Math.max(axis.categories.length, 1);
  };
  const all = ids.map((_, run) => ({
    run,
    x: place(x, run, 'x'),
    y: place(y, run, 'y'),
    isClamped: x.outliers[run] !== 0 || y.outliers[run] !== 0,
  }));
  return all
    .filter(dot => Number.isFinite(dot.x) && Number.isFinite(dot.y))
    .sort((a, b) => a.x - b.x);
}

/**
 * The ends of an axis that shows the part between two places. Texts have all of their places, and a
 * part of no size has no ends, so the axis keeps its own.
 */
export function partOf({ text, categories, axis }: ParamAxis, a: number, b: number) {
  if (categories.length > 0 || a === b) return {};
  return { [text]: { low: axis.toValue(Math.min(a, b)), high: axis.toValue(Math.max(a, b)) } };
}

export interface Trend {
  /** Ends of the line: places on both axes. */
  from: [x: number, y: number];
  to: [x: number, y: number];
  /**
   * Pearson's correlation of the places on the axes, which are logarithms if an axis is
   * logarithmic.
   */
  r: number;
  rho: number;
  runs: number;
}

const MIN_RUNS = 3;
/** A line that explains less of the variance would hide another relation, such as a valley. */
const MIN_EXPLAINED = 0.1;

/** Whether the straight line explains enough to be drawn. */
export function isExplained({ r }: Trend): boolean {
  return r ** 2 >= MIN_EXPLAINED;
}

/**
 * Least squares over the places, so that the trend is straight on logarithmic axes too. Categories
 * have none, and dots off the scale do not count.
 */
export function trend(x: ParamAxis, y: ParamAxis, shown: readonly Dot[]): Trend | undefined {
  const all = shown.filter(dot => !dot.isClamped);
  if (x.categories.length > 0 || y.categories.length > 0 || all.length < MIN_RUNS) return undefined;
  const mean = (of: (dot: Dot) => number): number =>
    all.reduce((sum, dot) => sum + of(dot), 0) / all.length;
  const meanX = mean(dot => dot.x);
  const meanY = mean(dot => dot.y);
  let xx = 0;
  let yy = 0;
  let xy = 0;
  for (const dot of all) {
    const dx = dot.x - meanX;
    const dy = dot.y - meanY;
    xx += dx * dx;
    yy += dy * dy;
    xy += dx * dy;
  }
  if (xx === 0 || yy === 0) return undefined;
  const end = (at: number): [number, number] => [at, meanY + ((at - meanX) * xy) / xx];
  const values = (axis: ParamAxis): Float64Array =>
    Float64Array.from(all, ({ run }) => axis.values[run] as number);
  return {
    from: end((all[0] as Dot).x),
    to: end((all.at(-1) as Dot).x),
    r: xy / Math.sqrt(xx * yy),
    rho: rankCorrelation(values(x), values(y)).rho,
    runs: all.length,
  };
}
