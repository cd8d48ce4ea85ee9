import { expect, test } from 'vitest';

import { mainParams, ordinal, originOf } from './story.ts';

test('hyperparameters come first, and some params are left out', () => {
  const { rows, rest } = mainParams({
    host: 'a',
    hparams: { lr: 0.1, model: { layers: 3 } },
    ...Object.fromEntries(Array.from({ length: 12 }, (_, at) => [`p${at}`, at])),
  });
  expect(rows.slice(0, 3)).toEqual([
    { title: 'lr', value: 0.1 },
    { title: 'model.layers', value: 3 },
    { title: 'host', value: 'a' },
  ]);
  expect([rows.length, rest]).toEqual([12, 3]);
  expect(mainParams({})).toEqual({ rows: [], rest: 0 });
});

test('params that a client keeps are in their own tab only', () => {
  const { rows, rest } = mainParams({
    hparams: { lr: 0.1 },
    summary: { loss: 0.5, table: { path: 'media/table.json' } },
    wandb: { project: 'demo' },
    optuna: 3,
  });
  expect(rows.map(({ title }) => title)).toEqual(['lr', 'optuna']);
  expect(rest).toBe(3);
});

test('a run says how it was started, as far as that is known', () => {
  expect(
    originOf({
      executable: '/usr/bin/python3',
      arguments: ['train.py', '--lr', '0.01'],
      git_info: { branch: 'trunk', commit: { hash: '3cca543d0be7aa11', author: 'Jane' } },
    }),
  ).toEqual([
    { title: 'Command', value: 'python3 train.py --lr 0.01' },
    { title: 'Commit', value: '3cca543d0be7' },
    { title: 'Branch', value: 'trunk' },
    { title: 'Author', value: 'Jane' },
  ]);
  expect(originOf({ git_info: 'broken', packages: {} })).toEqual([]);
});

test('places are ordinals', () => {
  expect([1, 2, 3, 4, 11, 12, 13, 21, 102, 111].map(ordinal)).toEqual(
    '1st 2nd 3rd 4th 11th 12th 13th 21st 102nd 111th'.split(' '),
  );
});
