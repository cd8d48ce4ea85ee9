import { expect, test } from 'vitest';

import { misplaced } from './order.ts';
import type { RunRow } from './search.ts';

const row = (last: number | undefined): RunRow =>
  ({ run: { series: [{ name: 'loss', context: '', last }] }, params: {} }) as unknown as RunRow;
const rows = (...values: (number | undefined)[]) => values.map(row);

test('runs are out of place if they belong above a row before them', () => {
  expect(misplaced(rows(1, 2, 2, 3), ['metric:loss'])).toBe(0);
  expect(misplaced(rows(1, 3, 2), ['metric:loss'])).toBe(1);
  expect(misplaced(rows(1, 5, 2, 3, 6), ['metric:loss'])).toBe(2);
  expect(misplaced(rows(3, 2, 1), ['-metric:loss'])).toBe(0);
  expect(misplaced(rows(3, 2, 2.5), ['-metric:loss', 'name'])).toBe(1);
  // Values that are missing or no numbers have no place, and neither has a row that was not read.
  expect(misplaced(rows(1, NaN, 2, undefined), ['metric:loss'])).toBe(0);
  expect(misplaced([row(2), undefined, row(1)], ['metric:loss'])).toBe(0);
  expect(misplaced(rows(3, 2, 1), ['-created'])).toBe(0);
  expect(misplaced(rows(3, 2, 1), ['metric:other'])).toBe(0);
});
