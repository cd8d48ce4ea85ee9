import { expect, test } from 'vitest';

import { linearTicks, logTicks } from './ticks.ts';

/** The ticks that d3-scale 4 chooses. */
test.each<[low: number, high: number, count: number, ticks: number[]]>([
  [-0.05, 1.05, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]],
  [0, 10, 4, [0, 2, 4, 6, 8, 10]],
  [0, 7, 3, [0, 2, 4, 6]],
  [0.1, 0.3, 5, [0.1, 0.15, 0.2, 0.25, 0.3]],
  [-1, 1, 4, [-1, -0.5, 0, 0.5, 1]],
  [1e-7, 9e-7, 4, [2e-7, 4e-7, 6e-7, 8e-7]],
  [123456.7, 123456.9, 3, [123456.7, 123456.75, 123456.8, 123456.85, 123456.9]],
  [0, 1e15, 2, [0, 5e14, 1e15]],
  [1e300, 1e301, 4, [2e300, 4e300, 6e300, 8e300, 1e301]],
  [3, 3, 5, [3]],
])('linear ticks from %d to %d, about %d', (low, high, count, ticks) => {
  expect(linearTicks(low, high, count)).toEqual(ticks);
});

test.each<[low: number, high: number, count: number, ticks: number[]]>([
  [2, 60, 5, [2, 5, 10, 20, 50]],
  [0.4, 2.4, 5, [0.5, 1, 1.5, 2]],
  [1e-6, 1, 5, [1e-6, 1e-4, 1e-2, 1]],
  [1e-3, 1e9, 4, [1e-3, 1e1, 1e5, 1e9]],
  [9.5e-5, 1.2e-2, 5, [1e-4, 1e-3, 1e-2]],
])('logarithmic ticks from %d to %d, about %d', (low, high, count, ticks) => {
  expect(logTicks(low, high, count)).toEqual(ticks);
});

test('a range without a size, the wrong way round or too large has few ticks or none', () => {
  for (const ticks of [linearTicks, logTicks]) {
    expect(ticks(5, 1, 5)).toEqual([]);
    expect(ticks(1, 5, 0)).toEqual([]);
    expect(ticks(NaN, 1, 5)).toEqual([]);
  }
  expect(linearTicks(-1.7e308, 1.7e308, 4)).toEqual([]);
  expect(logTicks(1e-300, 1e300, 3)).toEqual([1e-300, 1e-99, 1e102]);
});
