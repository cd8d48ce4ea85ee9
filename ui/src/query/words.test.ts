import { expect, test } from 'vitest';

import { isWords, wordsCondition, wordsExpression } from './words.ts';

test('words and expressions are distinguished', () => {
  const texts = [
    ...['falcon', 'vit-small / trial 3', 'resnet50 sweep', '3fa2b1', 'lr 0.01'],
    ...['lr=0.01_bs=32', 'trial (2)', 'run#7', 'my-run.v2', '"deep falcon"', "don't", 'run 7'],
  ];
  for (const words of texts) expect([words, isWords(words)]).toEqual([words, true]);
  const expressions = [
    '',
    ' ',
    'run.active',
    'run . active',
    'run["my param"]',
    '-run.hparams.lr < 3',
    'not run.active',
    'loss < 1',
    '"best" in run.tags',
    '"best" in',
    'metric.last',
    'True',
    'run',
  ];
  for (const expression of expressions)
    expect([expression, isWords(expression)]).toEqual([expression, false]);
});

test('every word has to be found, and quotes make a phrase', () => {
  expect(wordsExpression('Brave falcon').split(' and ')).toHaveLength(2);
  expect(wordsExpression('Brave falcon')).toContain('any("falcon" in text.lower()');
  expect(wordsExpression('"Brave falcon"').split(' and ')).toHaveLength(1);
  expect(wordsExpression('"Brave falcon"')).toContain('any("brave falcon" in text.lower()');
  expect(wordsExpression('fox')).toContain('run.description or ""');
  expect(wordsExpression("don't")).toContain('any("don\'t" in');
});

test('words stay readable as a condition, and are the same words', () => {
  expect(wordsCondition('brave falcon-2')).toBe('brave falcon-2');
  expect(wordsCondition('trial (2)')).toBe('"trial" "(2)"');
  for (const words of ['trial (2)', 'run#7', 'salt and "deep pepper"', 'a "b'])
    expect(wordsExpression(wordsCondition(words))).toBe(wordsExpression(words));
});
