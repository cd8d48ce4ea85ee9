import { expect, test } from 'vitest';

import { addRunPage, copyOf, documentPath } from './published.ts';

test('a copy is what its element says', () => {
  const one = copyOf({ content: '12 my run', dataset: {} });
  expect(one).toEqual({
    ...{ page: 'run', id: 'my run', atMs: 12, pages: [], folder: '', scope: '', state: '' },
  });
  const dataset = { page: 'metrics', pages: 'runs metrics', scope: 'q=a', state: 'm=loss' };
  const view = copyOf({ content: '12 ', dataset });
  expect(view).toMatchObject({ page: 'metrics', id: '', pages: ['runs', 'metrics'] });
});

test('pages of a copy are documents below its root', () => {
  const copy = { page: 'metrics', pages: ['runs', 'metrics', 'params'] };
  addRunPage('a b', '~612062');
  expect(documentPath(copy, 'run', 'a b')).toBe('runs/~612062/index.html');
  expect(documentPath(copy, 'runs', undefined)).toBe('index.html');
  expect(documentPath(copy, 'params', undefined)).toBe('params/index.html');
  // The open page, and pages that only a server has.
  for (const name of ['metrics', 'home'])
    expect(documentPath(copy, name, undefined)).toBeUndefined();
  expect(documentPath(copy, 'run', 'other')).toBeUndefined();
});
