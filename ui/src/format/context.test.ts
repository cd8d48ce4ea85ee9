import { expect, test } from 'vitest';

import { contextTitle, isSystemMetric, keyedTitle, metricTitle } from './context.ts';

test('a context of one key is its value, and others have their keys', () => {
  expect(contextTitle('{"subset":"val"}')).toBe('val');
  expect(contextTitle('{"layer":16,"head":2}')).toBe('layer=16 head=2');
  expect(contextTitle('{}')).toBe('');
  expect(contextTitle('')).toBe('');
  // It is no JSON.
  expect(contextTitle('{"lr":NaN}')).toBe('{"lr":NaN}');
  expect(metricTitle('loss', '{"subset":"val"}')).toBe('loss val');
});

test('a number has its key where it would say nothing', () => {
  expect(keyedTitle('{"layer":16}')).toBe('layer=16');
  expect(keyedTitle('{"list":[1,2]}')).toBe('list=[1,2]');
  expect(keyedTitle('')).toBe('');
});

test('readings of the machine are known by their names', () => {
  const names = ['__system__cpu', 'system/gpu.0.power', 'systematic/loss', 'loss', 'val/system/x'];
  expect(names.filter(isSystemMetric)).toEqual(['__system__cpu', 'system/gpu.0.power']);
});
