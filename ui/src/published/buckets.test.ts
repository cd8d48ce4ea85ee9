import { create, toBinary } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import {
  PublishedSeriesSchema,
  type PublishedSeries,
} from '../gen/matyan/published/v1/published_pb.ts';
import { SeriesBucketsSchema, SeriesPointsSchema } from '../gen/matyan/series/v1/series_pb.ts';
import { fineBuckets, type Bucket } from './buckets.ts';
import { CopyFiles } from './files.ts';

const PAGE_ENTRIES = 16;
const FIRST = -300;

interface Point {
  step: number;
  value: number;
}

/** Dense at first, then sparse, from negative steps on, with values that are not finite. */
const POINTS: readonly Point[] = Array.from({ length: 700 }, (_, at) => {
  const step = FIRST + (at < 500 ? at : 500 + (at - 500) * 37);
  const value =
    at % 97 === 5
      ? NaN
      : at % 89 === 7
        ? Infinity
        : at % 83 === 9
          ? -Infinity
          : (at * 7_919) % 1_009;
  return { step, value };
});

/** The buckets of some points by definition. */
function bucketsOf(points: readonly Point[], width: number): Bucket[] {
  const grouped = new Map<number, Point[]>();
  for (const point of points) {
    const place = Math.floor(point.step / width);
    grouped.set(place, [...(grouped.get(place) ?? []), point]);
  }
  return [...grouped.values()].map(group => {
    const finite = group.map(({ value }) => value).filter(Number.isFinite);
    const last = group.at(-1) as Point;
    const count = (isCounted: (value: number) => boolean): number =>
      group.filter(({ value }) => isCounted(value)).length;
    return {
      count: group.length,
      lastStep: last.step,
      lastTime: last.step * 10,
      min: finite.length ? Math.min(...finite) : NaN,
      max: finite.length ? Math.max(...finite) : NaN,
      last: last.value,
      nan: count(Number.isNaN),
      positiveInfinity: count(value => value === Infinity),
      negativeInfinity: count(value => value === -Infinity),
    };
  });
}

interface LevelFile {
  series: PublishedSeries;
  bytes: Uint8Array<ArrayBuffer>;
}

/** A file with the points and the levels of these exponents. */
function levelFile(exponents: readonly number[]): LevelFile {
  const bytes: number[] = [];
  const levels = exponents.map(exponent => {
    const all = bucketsOf(POINTS, 2 ** exponent);
    const list = {
      offset: BigInt(bytes.length),
      firstSteps: [] as bigint[],
      lengths: [] as number[],
    };
    for (let at = 0; at < all.length; at += PAGE_ENTRIES) {
      const some = all.slice(at, at + PAGE_ENTRIES);
      const page = exponent === 0 ? pointPage(some) : bucketPage(some, exponent);
      const before = all[at - 1]?.lastStep ?? -Infinity;
      list.firstSteps.push(BigInt(POINTS.find(({ step }) => step > before)?.step ?? 0));
      list.lengths.push(page.length);
      bytes.push(...page);
    }
    return { exponent, pages: { ...list, lastStep: BigInt(POINTS.at(-1)?.step ?? 0) } };
  });
  return {
    series: create(PublishedSeriesSchema, { number: 3, levels }),
    bytes: Uint8Array.from(bytes),
  };
}

function pointPage(points: readonly Bucket[]): Uint8Array {
  const page = create(SeriesPointsSchema, {
    steps: points.map(({ lastStep }) => BigInt(lastStep)),
    values: points.map(({ last }) => last),
    timesUs: points.map(({ lastTime }) => BigInt(lastTime)),
  });
  return toBinary(SeriesPointsSchema, page);
}

function bucketPage(buckets: readonly Bucket[], exponent: number): Uint8Array {
  const page = create(SeriesBucketsSchema, {
    width: BigInt(2 ** exponent),
    count: buckets.map(({ count }) => count),
    min: buckets.map(({ min }) => min),
    max: buckets.map(({ max }) => max),
    last: buckets.map(({ last }) => last),
    lastStep: buckets.map(({ lastStep }) => BigInt(lastStep)),
    lastTimeUs: buckets.map(({ lastTime }) => BigInt(lastTime)),
    nan: buckets.map(({ nan }) => nan),
    positiveInfinity: buckets.map(({ positiveInfinity }) => positiveInfinity),
    negativeInfinity: buckets.map(({ negativeInfinity }) => negativeInfinity),
  });
  return toBinary(SeriesBucketsSchema, page);
}

test('buckets of any range are those of its points, in as many as fit', async () => {
  const { series, bytes } = levelFile([0, 2, 4, 6]);
  const answer = async (_: unknown, init?: RequestInit): Promise<Response> => {
    const [, start, end] =
      /^bytes=(\d+)-(\d+)$/.exec(new Headers(init?.headers).get('range') ?? '') ?? [];
    return new Response(bytes.slice(Number(start), Number(end) + 1), { status: 206 });
  };
  const files = new CopyFiles(answer as typeof fetch, path => path);
  const last = POINTS.at(-1)?.step ?? 0;
  const ends = [-Infinity, FIRST + 1, -64, 63, 199, 1_000, last, Infinity];
  let compared = 0;
  for (const from of ends)
    for (const to of ends.filter(end => end >= from))
      for (const limit of [1, 7, 200]) {
        const { buckets, width } = await fineBuckets(files, series, { from, to }, limit);
        const within = POINTS.filter(({ step }) => step >= from && step <= to);
        const place = `${from} to ${to} in ${limit}`;
        if (within.length === 0) {
          expect(buckets, place).toEqual([]);
          continue;
        }
        compared += 1;
        expect(buckets, place).toEqual(bucketsOf(within, width));
        // A range of few steps may lie on both sides of the border of a wide bucket.
        expect(buckets.length, place).toBeLessThanOrEqual(Math.max(limit, 2));
        const isFinest = buckets.every(({ count }) => count === 1);
        if (limit > 2 && !isFinest) expect(2 * buckets.length, place).toBeGreaterThan(limit);
      }
  expect(compared).toBeGreaterThan(80);
});
