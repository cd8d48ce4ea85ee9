import { expect, test } from 'vitest';

import { distanceOf, repairsOf } from './repairs.ts';

const known = {
  params: [['hparams', 'optimizer', 'lr'], ['hparams', 'batch_size'], ['config', 'lr'], ['a b']],
  metrics: ['loss', 'val/loss', 'accuracy'],
};

test('a name without an object is a metric, or the last part of one', () => {
  expect(repairsOf('loss < 1', known)).toEqual([
    'run.metrics["loss"].last < 1',
    'run.metrics["val/loss"].last < 1',
  ]);
  expect(repairsOf('val/loss <= 0.5 and run.active', known)[0]).toBe(
    'run.metrics["val/loss"].last <= 0.5 and run.active',
  );
  expect(repairsOf('acuracy > 0.9', known)).toEqual(['run.metrics["accuracy"].last > 0.9']);
  expect(repairsOf('batch_size == 32', known)).toEqual(['run.hparams.batch_size == 32']);
});

test('a path is corrected by the similarity of the whole', () => {
  expect(repairsOf('run.hparam.optimizer.lr < 0.001', known)).toEqual([
    'run.hparams.optimizer.lr < 0.001',
  ]);
  expect(repairsOf('run.hparams.optimiser.lr > 1 or run.name == "x"', known)[0]).toBe(
    'run.hparams.optimizer.lr > 1 or run.name == "x"',
  );
});

test('what exists, properties, methods and texts are left alone', () => {
  for (const query of [
    'run.hparams.optimizer.lr < 1',
    'run.hparams == None',
    'run.duration > 3',
    'run.name.startswith("loss < 1")',
    '"loss < 1" in run.name',
    'run.metrics["los"].last < 1',
    'None == run.outcome',
  ])
    expect(repairsOf(query, known)).toEqual([]);
});

test('nothing is offered that is not similar', () => {
  expect(repairsOf('temperature < 1', known)).toEqual([]);
  expect(distanceOf('kitten', 'sitting')).toBeCloseTo(3 / 7);
  expect(distanceOf('', '')).toBe(0);
});
