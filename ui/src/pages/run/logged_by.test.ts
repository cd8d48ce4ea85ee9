import { expect, test } from 'vitest';

import { foreignClient, loggedBy } from './logged_by.ts';

test('a run says which clients of other trackers have logged to it', () => {
  expect(loggedBy('', { wandb: { project: 'demo', id: 'r' } })).toEqual(['W&B']);
  expect(loggedBy('', { mlflow: { tags: {} } })).toEqual(['MLflow']);
  expect(loggedBy('', { tensorboard: { path: 'a' } })).toEqual(['TensorBoard']);
  // A script may log to W&B in the trials of a study.
  expect(loggedBy('', { optuna: { study_id: 1 }, wandb: { project: 'demo' } })).toEqual([
    'Optuna',
    'W&B',
  ]);
});

test('params that only share a name are no sign', () => {
  expect(loggedBy('', { wandb: true, mlflow: { version: 3 }, hparams: { optuna: 1 } })).toEqual([]);
});

test('the client that has made a run comes first, with its version', () => {
  const wandb = { project: 'demo' };
  expect(loggedBy('W&B 0.31.0', { wandb })).toEqual(['W&B 0.31.0']);
  expect(loggedBy('matyan-client 0.4.0', { wandb })).toEqual(['matyan-client 0.4.0', 'W&B']);
});

test('lists name clients of other trackers', () => {
  expect(['W&B 0.31.0', 'TensorBoard', 'matyan-client 0.4.0', ''].map(foreignClient)).toEqual([
    'W&B',
    'TensorBoard',
    '',
    '',
  ]);
});
