import { expect, test } from 'vitest';

import type { SeriesData } from '../api/series_data.ts';
import { band, type Member } from './bands.ts';

function member(x: number[], values: number[], more: Partial<SeriesData> = {}): Member {
  const last = Float64Array.from(values);
  const none = new Uint32Array(values.length);
  const steps = Float64Array.from(x);
  const data = { width: 1, steps, times: steps, min: last, max: last, last };
  return {
    x: steps,
    data: { ...data, nan: none, positiveInfinity: none, negativeInfinity: none, ...more },
  };
}

const rounded = (values: Float64Array): number[] =>
  Array.from(values, value => Number(value.toFixed(6)));

test('bands of lines with the same steps are those of numpy', () => {
  const all = [member([0, 1], [1, 10]), member([0, 1], [2, 20]), member([0, 1], [6, 60])];
  const extremes = band(all, 'mean', 'extremes');
  expect([...extremes.x]).toEqual([0, 1]);
  expect([...extremes.center]).toEqual([3, 30]);
  expect([...extremes.low]).toEqual([1, 10]);
  expect([...extremes.high]).toEqual([6, 60]);
  expect([...extremes.counts]).toEqual([3, 3]);
  expect([...band(all, 'median', 'extremes').center]).toEqual([2, 20]);
  // numpy.std([1, 2, 6], ddof=1)
  const deviation = band(all, 'mean', 'deviation');
  expect(rounded(deviation.high)).toEqual([5.645751, 56.457513]);
  expect(rounded(deviation.low)).toEqual([0.354249, 3.542487]);
  // scipy.stats.t.ppf(0.975, 2) * numpy.std([1, 2, 6], ddof=1) / numpy.sqrt(3)
  expect((band(all, 'mean', 'confidence').high[0] ?? NaN) - 3).toBeCloseTo(6.572, 2);
});

test('too few lines have no band', () => {
  const all = [member([0, 1, 2], [1, 1, 1]), member([0, 1], [2, 3]), member([0], [3])];
  expect(rounded(band(all, 'mean', 'deviation').low)).toEqual([1, 0.585786, NaN]);
  const { center, low } = band(all, 'mean', 'confidence');
  expect([...low].map(Number.isNaN)).toEqual([false, true, true]);
  expect([...center]).toEqual([2, 2, 1]);
});

test('a line counts between its ends, and values that are not finite are left out', () => {
  const found = band([member([0, 4], [0, 4]), member([1, 2, 3], [1, NaN, 3])], 'mean', 'extremes');
  expect([...found.x]).toEqual([0, 1, 2, 3, 4]);
  expect([...found.center]).toEqual([0, 1, 2, 3, 4]);
  expect([...found.counts]).toEqual([1, 2, 2, 2, 1]);
});

test('a spike in a bucket is inside of the band, whatever the places are', () => {
  const x = Array.from({ length: 3_000 }, (_, at) => at);
  const max = Float64Array.from(x, at => (at === 1_234 ? 100 : 0));
  const zeros = x.map(() => 0);
  const found = band([member(x, zeros, { max }), member(x, zeros)], 'mean', 'extremes');
  expect(found.x.length).toBe(1_000);
  expect(Math.max(...found.high)).toBe(100);
});

test('an axis that goes back is sorted', () => {
  const found = band([member([3, 1, 2], [30, 10, 20])], 'mean', 'extremes');
  expect([...found.x]).toEqual([1, 2, 3]);
  expect([...found.center]).toEqual([10, 20, 30]);
});
