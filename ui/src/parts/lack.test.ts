import { expect, test } from 'vitest';

import { lackOf } from './lack.ts';

test('an empty page says which runs were looked at, and what shows more', () => {
  const check = (query: string, found: number, read = found, shown = read) =>
    Object.values(lackOf('metrics', { query, found, read, shown }));
  expect(check('', 0)).toEqual(['No metrics yet', 'log']);
  expect(check('', 3)).toEqual(['No metrics yet', 'log']);
  expect(check('a', 0)).toEqual(['No run matches this query', 'query']);
  expect(check('a', 3)).toEqual(['No run of this query has metrics', 'query']);
  expect(check('', 90, 50)).toEqual(['The newest 50 runs have no metrics', 'more']);
  expect(check('a', 90, 50)).toEqual(['The newest 50 runs of this query have no metrics', 'more']);
  // Hidden runs may have what the others lack.
  expect(check('', 90, 50, 2)).toEqual(['The 2 shown runs have no metrics', 'show']);
  expect(check('a', 3, 3, 1)).toEqual(['The only run that is shown has no metrics', 'show']);
});
