import { expect, test } from 'vitest';

import { ListWindow, MAX_HEIGHT_PX } from './list_window.ts';

test('a short list has the height of its rows', () => {
  const list = new ListWindow(100, 30, 300);
  expect([list.scrollHeight, list.isScaled]).toEqual([3_000, false]);
  expect(list.rowsAt(0)).toEqual({ first: 0, end: 20, shift: 0 });
  expect(list.rowsAt(1_515)).toEqual({ first: 41, end: 70, shift: -285 });
  expect(list.rowsAt(2_700).end).toBe(100);
});

test('every row of a million can be reached', () => {
  const list = new ListWindow(1_000_000, 34, 700);
  expect([list.scrollHeight, list.isScaled]).toEqual([MAX_HEIGHT_PX, true]);
  const end = list.offsetAt(MAX_HEIGHT_PX - 700);
  expect(end).toBe(list.fullHeight - 700);
  expect(list.rowsAt(end).end).toBe(1_000_000);
  for (const row of [0, 1, 499_999, 999_999]) {
    const offset = list.revealing(row, 0);
    const { first, end, shift } = list.rowsAt(offset);
    expect(first <= row && row < end).toBe(true);
    const top = shift + (row - first) * 34;
    expect(top >= 0 && top + 34 <= 700).toBe(true);
    expect(list.offsetAt(list.scrollTopAt(offset))).toBeCloseTo(offset, 3);
  }
});

test('some rows are taller than others', () => {
  const heights = Array.from({ length: 40 }, (_, row) => (row % 10 === 0 ? 50 : 30));
  const list = new ListWindow(40, 30, 100, heights);
  expect(list.fullHeight).toBe(40 * 30 + 4 * 20);
  expect(list.rowsAt(0)).toEqual({ first: 0, end: 12, shift: 0 });
  expect(list.rowsAt(700)).toEqual({ first: 12, end: 34, shift: 400 - 700 });
  expect([list.revealing(10, 0), list.revealing(39, 0), list.revealing(0, 700)]).toEqual([
    270, 1_180, 0,
  ]);
});

test('a visible row does not move the view', () => {
  expect(new ListWindow(1_000, 30, 300).revealing(12, 200)).toBe(200);
});
