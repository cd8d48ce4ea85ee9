import { expect, test } from 'vitest';

import { loggedBy } from './logged_by.ts';

test('a run says which clients of other trackers have logged to it', () => {
  expect(loggedBy({ wandb: { project: 'demo', id: 'r' } })).toEqual(['W&B']);
  expect(loggedBy({ mlflow: { tags: {} } })).toEqual(['MLflow']);
  expect(loggedBy({ tensorboard: { path: 'a' } })).toEqual(['TensorBoard event files']);
  // A script may log to W&B in the trials of a study.
  expect(loggedBy({ optuna: { study_id: 1 }, wandb: { project: 'demo' } })).toEqual([
    'Optuna',
    'W&B',
  ]);
});

test('params that only share a name are no sign', () => {
  expect(loggedBy({ wandb: true, mlflow: { version: 3 }, hparams: { optuna: 1 } })).toEqual([]);
});
