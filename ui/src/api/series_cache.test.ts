import { expect, test } from 'vitest';

import { SeriesCache } from './series_cache.ts';
import {
  byteSize,
  coarsen,
  EMPTY_SERIES,
  extend,
  tailStart,
  type SeriesData,
} from './series_data.ts';

const REF = { runId: 'run', number: 1 };

/** Buckets of a series whose value at each step is given by `value`. */
function series(
  from: number,
  to: number,
  width: number,
  value = (step: number): number => step,
): SeriesData {
  const firsts: number[] = [];
  for (let step = Math.floor(from / width) * width; step <= to; step += width) firsts.push(step);
  const inside = firsts.map(first =>
    Array.from({ length: width }, (_, at) => first + at).filter(step => step >= from && step <= to),
  );
  const column = (of: (values: number[]) => number): Float64Array =>
    Float64Array.from(inside, steps => of(steps.map(value)));
  const lasts = Float64Array.from(inside, steps => steps.at(-1) as number);
  return {
    width,
    steps: lasts,
    times: lasts.map(step => step * 1e6),
    min: column(values => Math.min(...values)),
    max: column(values => Math.max(...values)),
    last: column(values => values.at(-1) as number),
    nan: new Uint32Array(firsts.length),
    positiveInfinity: new Uint32Array(firsts.length),
    negativeInfinity: new Uint32Array(firsts.length),
  };
}

/** Progress of series beyond the steps that were read. */
function progress(...numbers: number[]): {
  numbers: number[];
  firstSteps: bigint[];
  lastSteps: bigint[];
} {
  const steps = numbers.map(() => 1_000n);
  return { numbers, firstSteps: steps, lastSteps: steps };
}

test('a tail replaces the last bucket', () => {
  const start = tailStart(series(0, 21, 8)) as number;
  expect(start).toBe(16);
  expect(extend(series(0, 21, 8), start, series(start, 30, 1))).toEqual({
    ...extend(series(0, 15, 8), 16, series(16, 30, 1)),
  });
  const joined = extend(series(0, 21, 8), start, series(start, 30, 1));
  expect([...joined.steps]).toEqual([
    7, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
  ]);
  expect(joined.width).toBe(8);
});

test('a series without times has none after it grew', () => {
  const without = (data: SeriesData): SeriesData => ({ ...data, times: new Float64Array(0) });
  const joined = extend(without(series(0, 21, 8)), 16, without(series(16, 30, 1)));
  expect([joined.steps.length, joined.times.length, coarsen(joined, 4).times.length]).toEqual([
    17, 0, 0,
  ]);
});

test('negative steps are aligned downward', () => {
  expect(tailStart(series(-20, -3, 8))).toBe(-8);
  expect(tailStart(EMPTY_SERIES)).toBeUndefined();
});

test('merged buckets keep every extreme', () => {
  const spike = (step: number): number =>
    step === 54_321 ? 100 : step === 1_000 ? -100 : Math.sin(step);
  const merged = coarsen(series(0, 99_999, 4, spike), 500);
  expect(merged.steps.length).toBeLessThanOrEqual(500);
  expect(Math.max(...merged.max)).toBe(100);
  expect(Math.min(...merged.min)).toBe(-100);
  expect(merged.last.at(-1)).toBe(spike(99_999));
  expect(merged).toEqual(series(0, 99_999, merged.width, spike));
});

test('merging ignores NaN and adds up counts', () => {
  const data = {
    ...series(0, 3, 1),
    min: Float64Array.of(NaN, 1, NaN, NaN),
    max: Float64Array.of(NaN, 1, NaN, NaN),
  };
  data.nan = Uint32Array.of(1, 0, 1, 1);
  const merged = coarsen(data, 2);
  expect([...merged.min]).toEqual([1, NaN]);
  expect([...merged.max]).toEqual([1, NaN]);
  expect([...merged.nan]).toEqual([1, 2]);
});

test('an entry serves views that it covers in enough detail', () => {
  const cache = new SeriesCache();
  cache.store(REF, { pixels: 1000 }, series(0, 9_999, 16), 0);
  expect(cache.lookup(REF, { pixels: 1000 })?.isFineEnough).toBe(true);
  expect(cache.lookup(REF, { from: 10, to: 200, pixels: 1000 })?.isFineEnough).toBe(false);
  expect(cache.lookup({ runId: 'run', number: 2 }, { pixels: 1000 })).toBeUndefined();
  cache.store(REF, { from: 0, to: 500, pixels: 1000 }, series(0, 500, 1), 0);
  const zoomed = cache.lookup(REF, { from: 10, to: 200, pixels: 1000 });
  expect([zoomed?.isFineEnough, zoomed?.entry.data.width]).toEqual([true, 1]);
  // The whole range is still served by the coarse entry.
  expect(cache.lookup(REF, { pixels: 1000 })?.entry.data.width).toBe(16);
});

test('an entry without times does not serve an axis of times', () => {
  const cache = new SeriesCache();
  cache.store(REF, { pixels: 100 }, series(0, 99, 1), 0);
  expect(cache.lookup(REF, { pixels: 100, hasTimes: true })).toBeUndefined();
  cache.store(REF, { pixels: 100, hasTimes: true }, series(0, 99, 1), 0);
  expect(cache.lookup(REF, { pixels: 100, hasTimes: true })?.entry.view.hasTimes).toBe(true);
});

test('a changed run makes its entries stale until they are extended', () => {
  const cache = new SeriesCache();
  const entry = cache.store(REF, { pixels: 100 }, series(0, 99, 1), cache.changes);
  cache.markChanged('run');
  expect(cache.lookup(REF, { pixels: 100 })?.entry.isStale).toBe(true);
  const start = tailStart(entry.data) as number;
  expect(start).toBe(99);
  cache.extend(entry, start, series(99, 120, 1), cache.changes);
  expect(cache.lookup(REF, { pixels: 100 })?.entry).toMatchObject({
    isStale: false,
    data: series(0, 120, 1),
  });
});

test('only the series with new points are stale, if they are known', () => {
  const cache = new SeriesCache();
  const view = { pixels: 100 };
  const refs = [1, 2].map(number => ({ runId: 'run', number }));
  const stale = (): unknown => refs.map(ref => cache.lookup(ref, view)?.entry.isStale);
  for (const ref of refs) cache.store(ref, view, series(0, 99, 1), cache.changes);
  cache.markChanged('run', 0n, progress());
  cache.markChanged('another', 0n, progress(1));
  expect(stale()).toEqual([false, false]);
  cache.markChanged('run', 0n, progress(2));
  expect(stale()).toEqual([false, true]);
  cache.store(refs[1]!, view, series(0, 99, 1), cache.changes);
  expect(stale()).toEqual([false, false]);
  cache.markChanged('run');
  expect(stale()).toEqual([true, true]);
});

test('a series with replaced points is read again as a whole', () => {
  const cache = new SeriesCache();
  const view = { pixels: 100 };
  const entry = cache.store(REF, view, series(0, 99, 1), cache.changes);
  const changes = cache.changes;
  // The last bucket is read in any case.
  cache.markChanged('run', 0n, { numbers: [REF.number], firstSteps: [99n], lastSteps: [120n] });
  expect(cache.lookup(REF, view)?.entry.isStale).toBe(true);
  cache.markChanged('run', 0n, { numbers: [REF.number], firstSteps: [50n], lastSteps: [150n] });
  expect(cache.lookup(REF, view)).toBeUndefined();
  // A read that started before the change has the old points, too.
  cache.extend(entry, 99, series(99, 120, 1), changes);
  expect(cache.lookup(REF, view)).toBeUndefined();
  cache.store(REF, view, series(0, 120, 1), changes);
  expect([cache.lookup(REF, view), cache.bytes]).toEqual([undefined, 0]);
  cache.store(REF, view, series(0, 150, 1), cache.changes);
  expect(cache.lookup(REF, view)?.entry.isStale).toBe(false);
});

test('everything that was read before changes were missed is stale', () => {
  const cache = new SeriesCache();
  const before = cache.changes;
  cache.store(REF, { pixels: 100 }, series(0, 99, 1), before);
  cache.reset();
  expect(cache.lookup(REF, { pixels: 100 })).toBeUndefined();
  cache.store(REF, { pixels: 100 }, series(0, 99, 1), before);
  expect(cache.lookup(REF, { pixels: 100 })).toBeUndefined();
  cache.store(REF, { pixels: 100 }, series(0, 99, 1), cache.changes);
  expect(cache.lookup(REF, { pixels: 100 })?.entry.isStale).toBe(false);
});

test('a series that grows for long is merged, and its bytes are counted', () => {
  const cache = new SeriesCache();
  const entry = cache.store(REF, { pixels: 64 }, series(0, 63, 1), 0);
  for (let last = 64; last < 5_000; last += 7) {
    const start = tailStart(entry.data) as number;
    cache.extend(entry, start, series(start, last, 1), 0);
    expect(entry.data.steps.length).toBeLessThanOrEqual(128);
    expect(cache.bytes).toBe(byteSize(entry.data));
  }
  expect(entry.data.last.at(-1)).toBe(entry.data.steps.at(-1));
});

test('two charts that read the same tail lose no point', () => {
  const cache = new SeriesCache();
  const entry = cache.store(REF, { pixels: 600 }, series(0, 1_199, 1), cache.changes);
  cache.markChanged('run');
  const start = tailStart(entry.data) as number;
  const before = cache.changes;
  // The first tail makes the buckets wider, so that the second tail starts inside a bucket.
  expect(cache.extend(entry, start, series(start, 1_210, 1), before)).toBe(true);
  expect([entry.data.width, start % 4]).toEqual([4, 3]);
  cache.markChanged('run');
  expect(cache.extend(entry, start, series(start, 1_220, 1), cache.changes)).toBe(false);
  expect([entry.data, entry.isStale]).toEqual([series(0, 1_210, 4), true]);
  // The next read starts at the start of the last bucket.
  const next = tailStart(entry.data) as number;
  expect(cache.extend(entry, next, series(next, 1_220, 1), cache.changes)).toBe(true);
  expect(entry.data).toEqual(extend(series(0, 1_207, 4), 1_208, series(1_208, 1_220, 1)));
  // The tail that the first chart has read has nothing new.
  expect(cache.extend(entry, start, series(start, 1_220, 1), cache.changes)).toBe(true);
  expect(entry.isStale).toBe(false);
});

test('the least recently used series is dropped first', () => {
  const size = byteSize(series(0, 99, 1));
  const cache = new SeriesCache(2.5 * size);
  const ref = (number: number): typeof REF => ({ runId: 'run', number });
  for (const number of [1, 2]) cache.store(ref(number), { pixels: 100 }, series(0, 99, 1), 0);
  cache.lookup(ref(1), { pixels: 100 });
  cache.store(ref(3), { pixels: 100 }, series(0, 99, 1), 0);
  expect([1, 2, 3].map(number => cache.lookup(ref(number), { pixels: 100 }) !== undefined)).toEqual(
    [true, false, true],
  );
  expect(cache.bytes).toBe(2 * size);
});

test('a series keeps only its last views', () => {
  const cache = new SeriesCache();
  for (let from = 0; from < 20; from++)
    cache.store(REF, { from, to: from + 9, pixels: 100 }, series(from, from + 9, 1), 0);
  const last = cache.store(REF, { from: 19, to: 28, pixels: 100 }, series(19, 28, 1), 0);
  expect(cache.bytes).toBe(8 * byteSize(series(0, 9, 1)));
  expect(cache.lookup(REF, { from: 5, to: 9, pixels: 100 })).toBeUndefined();
  expect(cache.lookup(REF, { from: 19, to: 28, pixels: 100 })?.entry).toBe(last);
});

test('what was read before an edit of the series is read again from the start', () => {
  const cache = new SeriesCache();
  const view = { pixels: 500 };
  cache.store(REF, view, series(0, 99, 1), cache.changes);
  cache.markChanged('run');
  expect(cache.lookup(REF, view)?.entry.isStale).toBe(true);
  cache.markChanged('run', 1n);
  // A read that started before the edit has the old points, too.
  cache.store(REF, view, series(0, 99, 1), cache.changes - 1);
  expect(cache.lookup(REF, view)).toBeUndefined();
  cache.store(REF, view, series(0, 49, 1), cache.changes);
  cache.markChanged('run', 1n);
  expect(cache.lookup(REF, view)?.entry.isStale).toBe(true);
});
