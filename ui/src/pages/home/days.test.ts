import { expect, test } from 'vitest';

import { dayColumns } from './days.ts';

test('hours become days, and the last week ends today', () => {
  // A Wednesday.
  const now = Date.UTC(2026, 10, 18, 12);
  const hour = (day: number, at: number, runs: number): { localS: bigint; runs: number } => ({
    localS: BigInt(Date.UTC(2026, 10, day, at) / 1000),
    runs,
  });
  const weeks = dayColumns(
    [hour(18, 0, 2), hour(18, 23, 3), hour(16, 5, 1), hour(15, 5, 7)],
    now,
    0,
  );
  expect(weeks.at(-1)?.map(({ runs }) => runs)).toEqual([1, 0, 5]);
  expect(weeks.at(-2)?.map(({ runs }) => runs)).toEqual([0, 0, 0, 0, 0, 0, 7]);
  // Thirteen hours to the east it is already Thursday.
  expect(dayColumns([], now, -13 * 60).at(-1)?.length).toBe(4);
});
