import { expect, test } from 'vitest';

import { runCount } from './count.ts';

test('a count says what is hidden, and what was not read', () => {
  expect(runCount(15, 15)).toBe('15 runs');
  expect(runCount(1, 1)).toBe('1 run');
  expect(runCount(12, 15)).toBe('12 of 15 shown');
  expect(runCount(50, 50, 1_234)).toBe('the newest 50 of 1\u202f234 runs');
  expect(runCount(48, 50, 1_234)).toBe('48 of the newest 50 shown');
});
