/** Names of the query language, which the tests of the language read, too. */
import { expect, test } from 'vitest';

import file from '../../../tests/vectors/query_names.json?raw';
import { KEYWORDS, METHODS, PROPERTIES } from './conditions.ts';
import { OBJECTS } from './words.ts';

const vectors = JSON.parse(file) as Record<string, string[]>;

test.each([
  ['objects', OBJECTS],
  ['properties', PROPERTIES],
  ['methods', METHODS],
  ['keywords', KEYWORDS],
])('the %s are those of the query language', (kind, own) => {
  expect([...own].sort()).toEqual([...(vectors[kind] ?? [])].sort());
});
