import { expect, test } from 'vitest';

import { importance, isLowerBetter } from './goals.svelte.ts';

test('names say whether lower values are better', () => {
  expect(['loss', 'val/loss', 'valLoss', 'train_rmse', 'eval WER'].map(isLowerBetter)).toEqual(
    Array(5).fill(true),
  );
  const scores = ['accuracy', 'top5_acc', 'acc@5', 'mean_reward', 'val/f1', 'win_rate', 'miou'];
  expect(scores.map(isLowerBetter)).toEqual(Array(7).fill(false));
  expect(['val/mmlu', 'gsm8k', 'eval/HumanEval', 'pass@1'].map(isLowerBetter)).toEqual(
    Array(4).fill(false),
  );
  expect(['lr', 'grad/norm', 'glossary', ''].map(isLowerBetter)).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test('results come first, on held-out data before others, nested names late, the machine last', () => {
  const names = ['system/gpu.0.power', 'grad/layer0', 'val/calls', 'lr', 'loss', 'val_loss'];
  expect(names.map(name => importance(name))).toEqual([-1, 0, 1, 1, 2, 3]);
  expect(importance('accuracy', '{"subset":"val"}')).toBe(3);
  const results = ['loss', 'val/mmlu', 'gsm8k', 'val/loss'];
  expect(results.toSorted((a, b) => importance(b) - importance(a))).toEqual([
    'val/loss',
    'val/mmlu',
    'loss',
    'gsm8k',
  ]);
});
