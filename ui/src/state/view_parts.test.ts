import { expect, test } from 'vitest';

import { joinParts, viewParts } from './view_parts.ts';

test('a query is its scope and the rest, in one order, without the name of the view', () => {
  const parts = viewParts('?smooth=0.5&q=run.active&named=a1&by=experiment&logy=1');
  expect(parts).toEqual({ scope: 'by=experiment&q=run.active', page: 'logy=1&smooth=0.5' });
  expect(viewParts('?logy=1&by=experiment&smooth=0.5&q=run.active')).toEqual(parts);
  expect(viewParts('')).toEqual({ scope: '', page: '' });
});

test('parts are joined to the query that they came from', () => {
  const query = 'q=run.name%20%3D%3D%20%22a%26b%22&columns=created';
  const parts = viewParts(query);
  expect(viewParts(joinParts(parts, 'x y'))).toEqual(parts);
  expect(new URLSearchParams(joinParts(parts, 'x y')).get('named')).toBe('x y');
  expect(joinParts({ scope: '', page: '' }, '')).toBe('');
});
