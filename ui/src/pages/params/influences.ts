/** The params that a metric depends on: which may explain it, how much, and in which direction. */
import { groupBy } from '../../collections.ts';
import { isLowerBetter } from '../../format/goals.svelte.ts';
import { isId, isKeptByClient } from '../../format/importance.ts';
import { readable } from '../../format/number.ts';
import { valueText, type ParamAxis } from './axes.ts';
import { MIN_RUNS, type Importances } from './forest.ts';
import type { ForestRequest } from './forest_worker.ts';
import { groupCorrelation, rankCorrelation, ranks, type Correlation } from './statistics.ts';

export interface Influence extends Correlation {
  axis: ParamAxis;
  /** The importance of the param, from 0 to 1; undefined without a forest. */
  share: number | undefined;
  /** How the metric changes with the param, in words; empty if that is not clear. */
  direction: string;
}

/** Params that may explain a metric, and the titles of those that cannot. */
export interface Candidates {
  kept: readonly ParamAxis[];
  leftOut: readonly string[];
}

/** The importance of params by the texts of their axes. */
export interface Grown {
  shares: ReadonlyMap<string, number>;
  /** The share of the differences that the params explain together. */
  explained: number;
}

/** Share of the differences that a bend has to explain in addition to a straight line. */
const MIN_BEND = 0.08;
/** The ranks of a param reach from −1 to 1; a bend nearer to an end is none. */
const MAX_VERTEX = 0.85;
/** Standard errors above which the correlation of ranks is no chance. */
const CLEAR = 2;

/**
 * Leaves out ids, hashes, seeds, constants, what clients keep, and texts that differ in nearly every
 * run. Only runs inside of the ranges that have the metric count.
 */
export function candidatesOf(
  params: readonly ParamAxis[],
  metric: ParamAxis | undefined,
  inside: readonly boolean[],
): Candidates {
  const isKnown = (value: number, at: number): boolean =>
    inside[at] === true && Number.isFinite(value) && Number.isFinite(metric?.values[at]);
  const varied = params
    .filter(({ column }) => column.kind !== 'param' || !isKeptByClient(column.segments))
    .map(axis => ({ axis, known: axis.values.filter(isKnown) }))
    .map(({ axis, known }) => ({ axis, count: known.length, different: new Set(known).size }))
    .filter(({ different }) => different > 1);
  const isCandidate = ({ axis, count, different }: (typeof varied)[number]): boolean =>
    !isId(nameOf(axis)) && (isOrdered(axis) || 2 * different <= count);
  return {
    kept: varied.filter(isCandidate).map(({ axis }) => axis),
    leftOut: varied.filter(one => !isCandidate(one)).map(({ axis }) => axis.title),
  };
}

/** The name of a param without the groups that it is in. */
function nameOf({ column, title }: ParamAxis): string {
  return column.kind === 'param' ? (column.segments.at(-1) ?? '') : title;
}

/** Two texts are a switch, and more of them have no order. */
function isOrdered({ categories }: ParamAxis): boolean {
  return categories.length < 3;
}

/** Undefined for too few runs. */
export async function growForest(
  kept: readonly ParamAxis[],
  metric: ParamAxis | undefined,
  inside: readonly boolean[],
  signal: AbortSignal,
): Promise<Grown | undefined> {
  const target = metric?.values.map((value, at) => (inside[at] ? value : NaN));
  if (!target || target.filter(Number.isFinite).length < MIN_RUNS) return undefined;
  const columns = kept.map(axis => ({ values: axis.values, isOrdered: isOrdered(axis) }));
  const { shares, explained } = await askWorker({ columns, target }, signal);
  return { shares: new Map(kept.map(({ text }, at) => [text, shares[at] ?? 0])), explained };
}

async function askWorker(request: ForestRequest, signal: AbortSignal): Promise<Importances> {
  signal.throwIfAborted();
  const worker = new Worker(new URL('./forest_worker.ts', import.meta.url), { type: 'module' });
  try {
    return await new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      worker.onmessage = ({ data }: MessageEvent<Importances>) => resolve(data);
      worker.onerror = ({ message }) =>
        reject(new Error(message || 'The code that computes the importance could not be loaded'));
      worker.postMessage(request);
    });
  } finally {
    worker.terminate();
  }
}

/** The most important param first; without a forest, by the size of the correlation. */
export function influencesOf(
  kept: readonly ParamAxis[],
  metric: ParamAxis,
  inside: readonly boolean[],
  grown: Grown | undefined,
): Influence[] {
  const known = (values: Float64Array): Float64Array => values.filter((_, at) => inside[at]);
  const target = known(metric.values);
  return kept
    .map((axis): Influence => {
      const values = known(axis.values);
      const correlation = isOrdered(axis) ? rankCorrelation : groupCorrelation;
      const found = correlation(values, target);
      const share = grown?.shares.get(axis.text);
      // A group of runs that is best by chance is no direction.
      const isChance = !isOrdered(axis) && found.rho === 0;
      const direction = isChance ? '' : directionOf(axis, values, metric, target);
      return { axis, share, direction, ...found };
    })
    .filter(({ rho }) => !Number.isNaN(rho))
    .sort((a, b) => (b.share ?? 0) - (a.share ?? 0) || Math.abs(b.rho) - Math.abs(a.rho));
}

function directionOf(
  axis: ParamAxis,
  values: Float64Array,
  metric: ParamAxis,
  target: Float64Array,
): string {
  const hasBoth = (_: number, at: number): boolean =>
    Number.isFinite(values[at]) && Number.isFinite(target[at]);
  const own = values.filter(hasBoth);
  const results = ranks(target.filter(hasBoth));
  if (!isOrdered(axis)) return bestText(axis, own, metric, results);
  const { slope, vertex } = shapeOf(ranks(own), results);
  if (vertex !== undefined) {
    const at = own.toSorted()[Math.round(((vertex.place + 1) / 2) * (own.length - 1))] ?? NaN;
    return `${vertex.isLow ? 'lowest' : 'highest'} near ${readable(at, 3)}`;
  }
  if (Math.abs(slope) < CLEAR / Math.sqrt(own.length)) return '';
  const [low, high] = axis.categories;
  if (low === undefined) return slope > 0 ? 'grows with it' : 'falls with it';
  return `${slope > 0 ? 'higher' : 'lower'} with ${high ?? low}`;
}

/** The text whose runs are best on average, or lowest if it is not known what is better. */
function bestText(
  axis: ParamAxis,
  own: Float64Array,
  metric: ParamAxis,
  results: Float64Array,
): string {
  const name = metric.column.kind === 'metric' ? metric.column.name : '';
  const isHigher = isLowerBetter(name) === false;
  const mean = (places: readonly number[]): number =>
    places.reduce((sum, at) => sum + (results[at] as number), 0) / places.length;
  const groups = [...groupBy([...own.keys()], at => own[at] as number)]
    .map(([value, places]) => ({ value, mean: mean(places) }))
    .sort((a, b) => (isHigher ? b.mean - a.mean : a.mean - b.mean));
  const [best] = groups;
  return best ? `${isHigher ? 'highest' : 'lowest'} for ${valueText(axis, best.value)}` : '';
}

interface Shape {
  /** Correlation of a straight line, from −1 to 1. */
  slope: number;
  /** The place of a valley or a peak between −1 and 1, if there is one. */
  vertex?: { place: number; isLow: boolean };
}

/** A line through ranks, or a parabola if that fits clearly better. */
function shapeOf(own: Float64Array, results: Float64Array): Shape {
  const count = own.length;
  const most = Math.max(count - 1, 1);
  const mean = (of: (at: number) => number): number =>
    own.reduce((sum, _, at) => sum + of(at), 0) / count;
  const x = (at: number): number => (2 * (own[at] as number)) / most - 1;
  const y = (at: number): number => (2 * (results[at] as number)) / most - 1;
  const yy = mean(at => y(at) ** 2);
  const xx = mean(at => x(at) ** 2);
  const line = mean(at => x(at) * y(at)) / xx;
  const slope = (line * Math.sqrt(xx)) / Math.sqrt(yy);
  // The square of x, as far as no line and no constant explains it.
  const square = mean(at => x(at) ** 2);
  const skew = mean(at => x(at) ** 3) / xx;
  const bent = (at: number): number => x(at) ** 2 - square - skew * x(at);
  const size = mean(at => bent(at) ** 2);
  if (size < 1e-6 || yy === 0) return { slope: yy === 0 ? 0 : slope };
  const bend = mean(at => bent(at) * y(at)) / size;
  const gained = (bend ** 2 * size) / yy;
  const place = -(line - bend * skew) / (2 * bend);
  const isInside = Math.abs(place) < MAX_VERTEX;
  // A bend by chance explains about a part of this size.
  const isClear = gained > Math.max(MIN_BEND, CLEAR ** 2 / count);
  return isClear && isInside ? { slope, vertex: { place, isLow: bend > 0 } } : { slope };
}
