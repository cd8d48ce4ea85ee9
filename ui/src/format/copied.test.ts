import { expect, test } from 'vitest';

import { copied } from './copied.ts';
import { readable } from './number.ts';

test('copied numbers are those of programs', () => {
  for (const value of [-1_234_567, 418_381_824_000, -7.11e-5, 0.5])
    expect(Number(copied(readable(value)))).toBe(value);
  expect(copied('a − b, 3 runs')).toBe('a − b, 3 runs');
});
