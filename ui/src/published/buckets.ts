/**
 * Buckets of a metric in a published copy, as a server would return them: from the widest level whose buckets fit, and
 * at the ends of the range from narrower ones, down to the points.
 */
import type { PublishedLevel, PublishedSeries } from '../gen/matyan/published/v1/published_pb.ts';
import { readSeriesBuckets, readSeriesPoints } from '../api/columns.ts';
import { pagesOver, type CopyFiles } from './files.ts';

/** A bucket, which is of one point if its count is 1. */
export interface Bucket {
  count: number;
  lastStep: number;
  lastTime: number;
  min: number;
  max: number;
  last: number;
  nan: number;
  positiveInfinity: number;
  negativeInfinity: number;
}

export interface FoundBuckets {
  buckets: Bucket[];
  /** Steps per bucket. */
  width: number;
}

/** The limit of a server for the number of points of a metric. */
const MOST_BUCKETS = 2 ** 32 - 1;

interface Steps {
  from: number;
  to: number;
}

/** The narrowest buckets of the steps of a range, at most `limit`. Both ends are included. */
export async function fineBuckets(
  files: CopyFiles,
  series: PublishedSeries,
  { from, to }: Steps,
  limit: number,
  signal?: AbortSignal,
): Promise<FoundBuckets> {
  const { firstSteps = [], lastStep } = series.levels[0]?.pages ?? {};
  const own = { from: Number(firstSteps[0] ?? 0n), to: Number(lastStep ?? -1n) };
  const wanted = { from: Math.max(from, own.from), to: Math.min(to, own.to) };
  if (wanted.from > wanted.to) return { buckets: [], width: 0 };
  // A bucket at an end of the metric is whole.
  const open = {
    from: wanted.from === own.from ? -Infinity : wanted.from,
    to: wanted.to === own.to ? Infinity : wanted.to,
  };
  const smallest = exponentFor(wanted, MOST_BUCKETS);
  let exponent = exponentFor(wanted, limit);
  for (;;) {
    const width = 2 ** exponent;
    const at = series.levels.findLastIndex(level => level.exponent <= exponent);
    const buckets = merged(await readLevel(files, series, at, open, signal), width);
    // Each halving of the width at most doubles the number of buckets.
    const times = Math.floor(limit / Math.max(1, buckets.length));
    const halvings = times > 1 ? Math.floor(Math.log2(times)) : 0;
    if (halvings === 0 || exponent === smallest || buckets.every(({ count }) => count === 1))
      return { buckets, width };
    exponent = Math.max(exponent - halvings, smallest);
  }
}

/** The smallest exponent at which steps are within a number of buckets, at least two. */
function exponentFor({ from, to }: Steps, limit: number): number {
  let exponent = 0;
  const count = (width: number): number => Math.floor(to / width) - Math.floor(from / width);
  while (exponent < 63 && count(2 ** exponent) >= Math.max(limit, 2)) exponent += 1;
  return exponent;
}

/** The buckets of a level that are within a range, and narrower ones before and after them. */
async function readLevel(
  files: CopyFiles,
  series: PublishedSeries,
  at: number,
  { from, to }: Steps,
  signal?: AbortSignal,
): Promise<Bucket[]> {
  const level = series.levels[at];
  if (!level) return [];
  const width = 2 ** level.exponent;
  const inner = {
    from: Math.ceil(from / width) * width,
    to: Math.floor((to + 1) / width) * width - 1,
  };
  if (inner.from > inner.to) return readLevel(files, series, at - 1, { from, to }, signal);
  const below = (steps: Steps): Promise<Bucket[]> =>
    steps.from < steps.to + 1
      ? readLevel(files, series, at - 1, steps, signal)
      : Promise.resolve([]);
  const parts = await Promise.all([
    from < inner.from ? below({ from, to: inner.from - 1 }) : [],
    readPages(files, series, level, inner, signal),
    inner.to < to ? below({ from: inner.to + 1, to }) : [],
  ]);
  return parts.flat();
}

async function readPages(
  files: CopyFiles,
  { number }: PublishedSeries,
  { exponent, pages }: PublishedLevel,
  { from, to }: Steps,
  signal?: AbortSignal,
): Promise<Bucket[]> {
  if (!pages) return [];
  const indexes = pagesOver(pages, from, to);
  const read = await files.pages(seriesPath(number), pages, indexes, signal);
  const decode = exponent === 0 ? pointsOf : bucketsOf;
  return read
    .flatMap(page => decode(page))
    .filter(({ lastStep }) => lastStep >= from && lastStep <= to);
}

export function seriesPath(number: number): string {
  return `series/${number}.bin`;
}

function bucketsOf(page: Uint8Array): Bucket[] {
  const columns = readSeriesBuckets(page);
  const { count, lastStep, lastTime, min, max, last } = columns;
  const { nan, positiveInfinity, negativeInfinity } = columns;
  return Array.from(lastStep, (step, at) => ({
    count: count[at] ?? 0,
    lastStep: step,
    lastTime: lastTime[at] ?? 0,
    min: min[at] ?? NaN,
    max: max[at] ?? NaN,
    last: last[at] ?? NaN,
    nan: nan[at] ?? 0,
    positiveInfinity: positiveInfinity[at] ?? 0,
    negativeInfinity: negativeInfinity[at] ?? 0,
  }));
}

function pointsOf(page: Uint8Array): Bucket[] {
  const { steps, values, times } = readSeriesPoints(page);
  return Array.from(steps, (step, at) => {
    const last = values[at] ?? NaN;
    const finite = Number.isFinite(last) ? last : NaN;
    return {
      count: 1,
      lastStep: step,
      lastTime: times[at] ?? 0,
      min: finite,
      max: finite,
      last,
      nan: Number.isNaN(last) ? 1 : 0,
      positiveInfinity: last === Infinity ? 1 : 0,
      negativeInfinity: last === -Infinity ? 1 : 0,
    };
  });
}

/** Joins buckets, in the order of their steps, into buckets whose width is a multiple of theirs. */
function merged(narrow: readonly Bucket[], width: number): Bucket[] {
  const wide: Bucket[] = [];
  let open: Bucket | undefined;
  for (const one of narrow) {
    const isSame = open && Math.floor(open.lastStep / width) === Math.floor(one.lastStep / width);
    if (open && isSame) extend(open, one);
    else wide.push((open = { ...one }));
  }
  return wide;
}

function extend(sum: Bucket, later: Bucket): void {
  sum.count += later.count;
  sum.lastStep = later.lastStep;
  sum.lastTime = later.lastTime;
  sum.last = later.last;
  // The minimum of a bucket without finite values is not a number.
  if (!(sum.min <= later.min) && !Number.isNaN(later.min)) sum.min = later.min;
  if (!(sum.max >= later.max) && !Number.isNaN(later.max)) sum.max = later.max;
  sum.nan += later.nan;
  sum.positiveInfinity += later.positiveInfinity;
  sum.negativeInfinity += later.negativeInfinity;
}
