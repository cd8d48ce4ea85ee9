import { expect, test } from 'vitest';

import { commandAt, insertionsFor, INSERTIONS } from './insertions.ts';

test('a slash at the start of a line is a command', () => {
  expect(commandAt('/', 1)).toEqual({ from: 0, text: '' });
  expect(commandAt('text\n/bar ch', 12)).toEqual({ from: 5, text: 'bar ch' });
  expect(commandAt('text\n/bar\nmore', 9)).toEqual({ from: 5, text: 'bar' });
  for (const text of ['a/b', ' /x', '/usr/bin', 'and/or', ''])
    expect(commandAt(text, text.length), text).toBeUndefined();
});

test('insertions are found by their words', () => {
  expect(insertionsFor('')).toEqual(INSERTIONS);
  expect(insertionsFor('bar').map(({ title }) => title)).toEqual(['Bar chart']);
  expect(insertionsFor('chart line').map(({ title }) => title)).toEqual(['Line chart']);
  expect(insertionsFor('hologram')).toEqual([]);
});

test('the cursor is within the inserted text', () => {
  for (const one of INSERTIONS)
    if ('text' in one) {
      expect(one.cursor, one.title).toBeGreaterThan(0);
      expect(one.cursor, one.title).toBeLessThanOrEqual(one.text.length);
    }
});
