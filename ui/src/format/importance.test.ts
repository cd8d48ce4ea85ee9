import { expect, test } from 'vitest';

import { importance, isLowerBetter } from './goals.svelte.ts';

test('names say whether lower values are better', () => {
  expect(['loss', 'val/loss', 'valLoss', 'train_rmse', 'eval WER'].map(isLowerBetter)).toEqual(
    Array(5).fill(true),
  );
  expect(['accuracy', 'top5_acc', 'acc@5', 'mean_reward', 'val/f1'].map(isLowerBetter)).toEqual(
    Array(5).fill(false),
  );
  expect(['lr', 'grad/norm', 'glossary', ''].map(isLowerBetter)).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test('results come first, on held-out data before others, and nested names last', () => {
  const names = ['grad/layer0', 'lr', 'loss', 'val_loss'];
  expect(names.map(name => importance(name))).toEqual([0, 1, 2, 3]);
  expect(importance('accuracy', '{"subset":"val"}')).toBe(3);
});
