import { expect, test } from 'vitest';

import { EMPTY_SERIES, type SeriesData } from '../api/series_data.ts';
import { heatOf, levelOf } from './heat.ts';

function data(points: [step: number, value: number][], width = 1): SeriesData {
  return {
    ...EMPTY_SERIES,
    width,
    steps: Float64Array.from(points.map(([step]) => step)),
    last: Float64Array.from(points.map(([, value]) => value)),
  };
}

test('points are in the columns of their steps, and gaps stay empty', () => {
  const heat = heatOf(
    [
      data([
        [0, 1],
        [2, 3],
      ]),
      undefined,
      data([[3, 5]]),
    ],
    100,
  )!;
  expect(heat.rows.map(row => [...row])).toEqual([
    [1, NaN, 3, NaN],
    [NaN, NaN, NaN, NaN],
    [NaN, NaN, NaN, 5],
  ]);
  expect([...heat.steps]).toEqual([0, 1, 2, 3]);
});

test('buckets fill the columns that they stand for', () => {
  const heat = heatOf(
    [
      data(
        [
          [3, 1],
          [7, 2],
        ],
        4,
      ),
      data([
        [0, 0],
        [7, 9],
      ]),
    ],
    4,
  )!;
  expect(heat.rows.map(row => [...row])).toEqual([
    [1, 1, 2, 2],
    [0, NaN, NaN, 9],
  ]);
  expect([...heat.steps]).toEqual([1, 3, 5, 7]);
});

test('a few values far away do not take the colors of the others', () => {
  const values = Array.from({ length: 200 }, (_, at): [number, number] => [
    at,
    at === 7 ? 1e9 : at,
  ]);
  const heat = heatOf([data(values)], 500)!;
  expect(heat.high).toBeLessThan(200);
  expect(levelOf(heat, 1e9, 16)).toBe(15);
  expect(levelOf(heat, -1e9, 16)).toBe(0);
  expect(levelOf(heat, (heat.low + heat.high) / 2, 16)).toBe(8);
});

test('without any value there is no heat map', () => {
  expect(heatOf([], 10)).toBeUndefined();
  expect(heatOf([undefined, EMPTY_SERIES], 10)).toBeUndefined();
  expect(
    heatOf(
      [
        data([
          [0, NaN],
          [1, Infinity],
        ]),
      ],
      10,
    ),
  ).toBeUndefined();
  const flat = heatOf([data([[5, 2]])], 10)!;
  expect(levelOf(flat, 2, 16)).toBe(8);
});
