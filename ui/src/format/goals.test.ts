import { afterEach, expect, test } from 'vitest';

import {
  byImportance,
  importance,
  isLowerBetter,
  metricBound,
  metricNumber,
  setGoals,
  summaryOf,
  summaryTitle,
  type MetricGoal,
} from './goals.svelte.ts';

function goal(name: string, own: Partial<MetricGoal> = {}): MetricGoal {
  const none = { isLower: undefined, isBest: undefined, format: undefined };
  return { name, ...none, unit: '', xAxis: '', isPrimary: false, updatedUs: 1n, ...own };
}

afterEach(() => setGoals([]));

test('a stated goal takes precedence over the name', () => {
  setGoals([goal('loss', { isLower: false }), goal('gsm8k', { isLower: false }), goal('acc')]);
  expect(['loss', 'gsm8k', 'acc', 'lr'].map(isLowerBetter)).toEqual([
    false,
    false,
    false,
    undefined,
  ]);
});

test('the primary metric comes first, and then the metrics whose goal is stated', () => {
  setGoals([goal('val/gsm8k', { isLower: false }), goal('lr', { isPrimary: true })]);
  const series = ['val/loss', 'lr', 'speed', 'val/gsm8k'].map(name => ({ name, context: '' }));
  expect(byImportance(series).map(({ name }) => name)).toEqual([
    'lr',
    'val/gsm8k',
    'val/loss',
    'speed',
  ]);
  expect(importance('val/gsm8k')).toBeGreaterThan(importance('val/loss'));
});

test('the best value stands for a run if that is wanted and it is known what is better', () => {
  const values = { last: 3, min: 1, max: 5 };
  const of = (name: string): [number | undefined, string] => [
    summaryOf({ name, ...values }),
    summaryTitle(name),
  ];
  expect(of('loss')).toEqual([3, 'last']);
  setGoals(['loss', 'accuracy', 'speed'].map(name => goal(name, { isBest: true })));
  expect(of('loss')).toEqual([1, 'lowest']);
  expect(of('accuracy')).toEqual([5, 'highest']);
  expect(of('speed')).toEqual([3, 'last']);
});

test('numbers have the format and the unit of their metric', () => {
  setGoals([
    goal('share', { format: 'percent' }),
    goal('percent', { format: 'percent', unit: '%' }),
    goal('tiny', { format: 'scientific' }),
    goal('tokens', { format: 'integer', unit: 'tokens' }),
    goal('latency', { unit: 'ms' }),
  ]);
  const text = (name: string, value: number): string =>
    metricNumber(name, value).replaceAll('\u202f', ' ');
  expect(text('share', 0.912)).toBe('91.2 %');
  expect(text('share', 0.07)).toBe('7 %');
  expect(text('percent', 0.5)).toBe('50 %');
  expect(text('tiny', 0.00001231)).toBe('1.231e−5');
  expect(text('tiny', 12340)).toBe('1.234e4');
  expect(text('tokens', 1234567.4)).toBe('1 234 567 tokens');
  expect(text('latency', 12.5)).toBe('12.5 ms');
  expect(text('other', 12.5)).toBe('12.5');
  expect(text('share', NaN)).toBe('NaN');
});

test('bounds have the scale of the value that they stand next to', () => {
  setGoals([goal('share', { format: 'percent' }), goal('latency', { unit: 'ms' })]);
  const text = (name: string, value: number): string =>
    metricBound(name, value).replaceAll('\u202f', ' ');
  expect(text('share', 0.912)).toBe('91.2 %');
  expect(text('latency', 12.345)).toBe('12.3');
  expect(text('', 0.91234)).toBe('0.912');
});
