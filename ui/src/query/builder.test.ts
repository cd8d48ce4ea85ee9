import { expect, test } from 'vitest';

import {
  builtCondition,
  commonValues,
  histogram,
  isSharedTitle,
  operatorsOf,
  titledFields,
} from './builder.ts';

const param = (...segments: string[]) => ({ kind: 'param' as const, segments });

test('conditions are those of the query language', () => {
  const check = (
    expected: string | undefined,
    ...[field, operator, text, values]: Parameters<typeof builtCondition>
  ) => expect(builtCondition(field, operator, text, values)).toBe(expected);
  check('run.hparams.lr < 0.001', param('hparams', 'lr'), '<', '0.001', [0.1, 0.01]);
  check('run["learning rate"] == 3', param('learning rate'), '==', '3', [3]);
  check('run.optimizer == "3"', param('optimizer'), '==', '3', ['adam']);
  check('run.flag == True', param('flag'), '==', 'True', [true, false]);
  check('"ada" in run.optimizer', param('optimizer'), 'contains', 'ada', ['adam']);
  check('run.hparams.lr is None', param('hparams', 'lr'), 'missing', '');
  check(undefined, param('hparams', 'lr'), '<', ' ');
  const loss = { kind: 'metric' as const, name: 'val/loss', context: '{"subset":"val"}' };
  check('run.metrics["val/loss", {"subset": "val"}].last <= 0.5', loss, '<=', '0.5');
  check('run.metrics["loss"].last > 1', { ...loss, name: 'loss', context: '' }, '>', '1');
  check(undefined, loss, '<', 'low');
  check('"best" in run.tags', { kind: 'tag' }, '==', 'best', ['best']);
  check('run.experiment != "a \\"b\\""', { kind: 'experiment' }, '!=', 'a "b"');
  check('"vit" in run.name', { kind: 'name' }, 'contains', 'vit');
});

test('fields of one name have different titles', () => {
  const loss = { kind: 'metric' as const, name: 'loss', context: '' };
  const val = { ...loss, context: '{"subset":"val"}' };
  const fields = [loss, val, param('loss'), param('a.b'), param('a', 'b'), param('lr')];
  const titled = titledFields(fields);
  expect([...titled.keys()]).toEqual([
    'loss · run.metrics["loss"].last',
    'loss {"subset":"val"}',
    'loss · run.loss',
    'a.b · run["a.b"]',
    'a.b · run.a.b',
    'lr',
  ]);
  expect([...titled.values()]).toEqual(fields);
  expect(['loss', 'a.b', 'lr', 'other'].map(title => isSharedTitle(titled, title))).toEqual([
    true,
    true,
    false,
    false,
  ]);
});

test('operators fit the values', () => {
  expect(operatorsOf(param('lr'), [1, 2n])).toContain('<');
  expect(operatorsOf(param('optimizer'), ['adam', 1])).not.toContain('<');
  expect(operatorsOf({ kind: 'tag' }, [])).toEqual(['==']);
});

test('values are counted, and numbers spread over parts', () => {
  expect(commonValues(['b', 'a', 'b', true, 3], 3)).toEqual([
    ['b', 2],
    ['a', 1],
    ['True', 1],
  ]);
  expect(histogram([0, 1, 2, 3, NaN], 2)).toEqual([2, 2]);
  // A learning rate spreads over decades.
  expect(histogram([1e-5, 1e-4, 1e-3, 1e-2], 4)).toEqual([1, 1, 1, 1]);
  expect(histogram([5, 5], 3)).toEqual([2, 0, 0]);
  expect(histogram([], 2)).toEqual([0, 0]);
});
