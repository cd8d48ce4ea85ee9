import { expect, test } from 'vitest';

import { numberIn } from './number_field.ts';

test('a text that is no number gives way to the number before', () => {
  const read = (value: string, before?: number): [number | undefined, string] => {
    const field = { value };
    return [numberIn(field, before), field.value];
  };
  expect(read(' 1e-3 ')).toEqual([0.001, ' 1e-3 ']);
  expect(read('', 3)).toEqual([undefined, '']);
  expect(read('0,5', 3)).toEqual([3, '3']);
  expect(read('Infinity')).toEqual([undefined, '']);
});
