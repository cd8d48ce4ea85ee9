import { expect, test } from 'vitest';

import { withSavedState } from './published_state.ts';

test('a page of a view opens as it was saved, and keeps what the reader has changed', () => {
  const saved = { scope: 'q=a&by=experiment', state: 'm=loss' };
  expect(withSavedState('', saved)).toBe('?q=a&by=experiment&m=loss');
  // A link from another page of the copy.
  expect(withSavedState('?q=a&hide=r1', saved)).toBe('?m=loss&q=a&hide=r1');
  expect(withSavedState('?q=a&m=acc', saved)).toBe('?q=a&m=acc');
  expect(withSavedState('?m=acc', saved)).toBe('?q=a&by=experiment&m=acc');
  expect(withSavedState('', { scope: '', state: '' })).toBe('');
});
