import { expect, test } from 'vitest';

import { isInOrder } from './order.ts';
import type { RunRow } from './search.ts';

const row = (last: number | undefined): RunRow =>
  ({ run: { series: [{ name: 'loss', context: '', last }] }, params: {} }) as unknown as RunRow;
const rows = (...values: (number | undefined)[]) => values.map(row);

test('rows are in order unless known neighbors are not', () => {
  expect(isInOrder(rows(1, 2, 2, 3), ['metric:loss'])).toBe(true);
  expect(isInOrder(rows(1, 3, 2), ['metric:loss'])).toBe(false);
  expect(isInOrder(rows(3, 2, 1), ['-metric:loss'])).toBe(true);
  expect(isInOrder(rows(3, 2, 2.5), ['-metric:loss', 'name'])).toBe(false);
  // Values that are missing or no numbers have no place, and neither has a row that was not read.
  expect(isInOrder(rows(1, NaN, 2, undefined), ['metric:loss'])).toBe(true);
  expect(isInOrder([row(2), undefined, row(1)], ['metric:loss'])).toBe(true);
  expect(isInOrder(rows(3, 2, 1), ['-created'])).toBe(true);
  expect(isInOrder(rows(3, 2, 1), ['metric:other'])).toBe(true);
});
