import { expect, test } from 'vitest';

import { OutcomeKind } from '../gen/matyan/common/v1/common_pb.ts';
import {
  bothQueries,
  conditionsOf,
  continuations,
  expressionOf,
  hashCondition,
  paramCondition,
  shortQuery,
  statusCondition,
  withCondition,
} from './conditions.ts';

test('a value is compared, and a condition is joined with another one', () => {
  expect(continuations('run.a == 1 and run.hparams.lr')).toContain('<');
  expect(continuations('run.hparams.lr')).toContain('and');
  for (const whole of ['run.hparams.lr < 1', '"best" in run.tags', 'run.b and run.a == "x"'])
    expect(continuations(whole)).toEqual(['and']);
});

test('a query is a list of conditions, if all of them have to hold', () => {
  expect(conditionsOf('')).toEqual([]);
  expect(conditionsOf(' run.active and run.hparams.lr < 0.1 ')).toEqual([
    'run.active',
    'run.hparams.lr < 0.1',
  ]);
  expect(conditionsOf('run.name == "a and b" and (x and y) and [p and q]')).toEqual([
    'run.name == "a and b"',
    '(x and y)',
    '[p and q]',
  ]);
  expect(conditionsOf('run.a == 1 and run.b == 2 or run.c')).toEqual([
    'run.a == 1 and run.b == 2 or run.c',
  ]);
  expect(conditionsOf('run.brand == 1 # and run.b')).toEqual(['run.brand == 1']);
  expect(conditionsOf('run.a # either\n or run.b # "why')).toEqual(['run.a \n or run.b']);
  expect(conditionsOf('run.name == "open and')).toEqual(['run.name == "open and']);
});

test('a condition is added once, and keeps the meaning of the others', () => {
  expect(withCondition('', 'run.active')).toBe('run.active');
  expect(withCondition('run.a', 'run.b == "or"')).toBe('run.a and (run.b == "or")');
  expect(withCondition('run.a or run.b', 'run.c')).toBe('(run.a or run.b) and run.c');
  expect(withCondition('run.a or run.b # why', 'run.c')).toBe('(run.a or run.b) and run.c');
  expect(withCondition('(run.a or run.b) and run.c', 'run.c')).toBe('(run.a or run.b) and run.c');
  expect(withCondition('(run.a) or (run.b)', 'run.c')).toBe('((run.a) or (run.b)) and run.c');
  expect(withCondition('(run.a == ")" or run.b)', 'run.c')).toBe(
    '(run.a == ")" or run.b) and run.c',
  );
});

test('words stay readable next to a condition, and are searched as words', () => {
  const joined = withCondition('brave falcon', 'run.hparams.lr == 0.01');
  expect(joined).toBe('brave falcon and run.hparams.lr == 0.01');
  expect(conditionsOf(joined)).toEqual(['brave falcon', 'run.hparams.lr == 0.01']);
  expect(expressionOf(joined)).toBe(`${expressionOf('brave falcon')} and run.hparams.lr == 0.01`);
  expect(withCondition('run#7', 'run.active')).toBe('"run#7" and run.active');
  expect(expressionOf('"run#7" and run.active')).toBe(`${expressionOf('run#7')} and run.active`);
  for (const same of ['run.active', 'run.a or run.b', '', 'run.a and True'])
    expect(expressionOf(same)).toBe(same);
});

test('values are written as the query language wants them', () => {
  expect(paramCondition(['hparams', 'lr'], 0.01)).toBe('run.hparams.lr == 0.01');
  expect(paramCondition(['name'], 'a "b"')).toBe('run["name"] == "a \\"b\\""');
  expect(paramCondition(['a.b'], null)).toBe('run["a.b"] == None');
  expect(paramCondition(['parent', 'items', '_hidden', 'in', 'x'], true)).toBe(
    'run["parent"]["items"]["_hidden"]["in"].x == True',
  );
  expect(paramCondition(['big'], 2n ** 80n)).toBe('run.big == 1208925819614629174706176');
  for (const none of [NaN, [1], {}, new Uint8Array(1), undefined])
    expect(paramCondition(['x'], none)).toBeUndefined();
  expect(statusCondition({ active: true })).toBe('run.active');
  const outcome = { kind: OutcomeKind.FAILED, message: '' };
  expect(statusCondition({ active: false, outcome: outcome as never })).toBe(
    'run.outcome == "failed"',
  );
});

test('runs are found by their hashes alone', () => {
  expect(hashCondition(['a'])).toBe('run.hash == "a"');
  expect(hashCondition(['a', 'b'])).toBe('run.hash in ["a", "b"]');
  // Nobody has these hashes.
  expect(hashCondition([])).toBe('run.hash in []');
  // It is one condition, to which others can be added.
  expect(conditionsOf(withCondition('run.active', hashCondition(['a', 'b'])))).toEqual([
    'run.active',
    'run.hash in ["a", "b"]',
  ]);
});

test('a list of runs is their number in a heading', () => {
  const chosen = hashCondition(['a', 'b', 'c']);
  expect(shortQuery(`${chosen} and run.active`)).toBe('3 chosen runs and run.active');
  expect(shortQuery('run.hash == "a"')).toBe('run.hash == "a"');
});

test('two queries find the runs of both', () => {
  expect(bothQueries('', '')).toBe('');
  expect(bothQueries('run.active', '')).toBe('run.active');
  expect(bothQueries('', 'run.active')).toBe('run.active');
  expect(bothQueries('run.active', 'run.active and run.x')).toBe('run.active and run.x');
  expect(bothQueries('run.a or run.b', 'run.c or run.d')).toBe(
    '(run.a or run.b) and (run.c or run.d)',
  );
  expect(expressionOf(bothQueries('falcon', 'eagle (2)'))).toBe(expressionOf('falcon eagle (2)'));
});
