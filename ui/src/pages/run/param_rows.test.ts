import { expect, test } from 'vitest';

import { paramRows } from './param_rows.ts';

test('rows are those of both runs, and differ by value and kind', () => {
  const rows = paramRows(
    { lr: 0.1, model: { layers: 2, act: 'gelu' }, seed: 1, nan: NaN, only: {} },
    { lr: 0.1, model: { layers: 3, act: 'gelu', bias: true }, seed: '1', nan: NaN },
  );
  expect(rows.map(({ path, isDifferent }) => [path, isDifferent])).toEqual([
    ['lr', false],
    ['model', true],
    ['model.layers', true],
    ['model.act', false],
    ['model.bias', true],
    ['seed', true],
    ['nan', false],
    ['only', true],
  ]);
  expect(rows.map(({ depth }) => depth)).toEqual([0, 0, 1, 1, 1, 0, 0, 0]);
  expect(paramRows({ a: { b: 1 } }).some(({ isDifferent }) => isDifferent)).toBe(false);
});
