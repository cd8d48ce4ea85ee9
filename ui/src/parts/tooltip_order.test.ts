import { expect, test } from 'vitest';

import type { NearPoint } from '../plot/chart.ts';
import { tooltipOrder } from './tooltip_order.ts';

const point = (value: number): NearPoint =>
  ({ series: { data: { last: Float64Array.of(value) } }, index: 0 }) as unknown as NearPoint;
const order = (values: number[], isLower: boolean | undefined) =>
  tooltipOrder(values.map(point), isLower).map(({ series }) => series.data.last[0]);

test('the nearest line comes first, and then the best ones', () => {
  expect(order([5, 3, 9, NaN, 1], true)).toEqual([5, 1, 3, 9, NaN]);
  expect(order([5, 3, 9, NaN, 1], false)).toEqual([5, 9, 3, 1, NaN]);
  expect(order([Infinity, 3, -Infinity, Infinity], true)).toEqual([
    Infinity,
    -Infinity,
    3,
    Infinity,
  ]);
});

test('without a goal, lines are in the order of the chart', () => {
  expect(order([2, 1, 3], undefined)).toEqual([2, 3, 1]);
  expect(order([], undefined)).toEqual([]);
});
