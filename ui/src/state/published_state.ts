/** The state with which a page of a published view opens. */
import { scope } from './routes.ts';

/**
 * The query of an address with what the view says, as far as the address says nothing about it. A link from another page
 * of the copy brings the scope, which the reader may have changed there, and nothing else.
 */
export function withSavedState(query: string, saved: { scope: string; state: string }): string {
  const given = new URLSearchParams(query);
  const isScope = (name: string): boolean => Object.hasOwn(scope, name);
  const names = [...given.keys()];
  const parts = [
    names.some(isScope) ? '' : saved.scope,
    names.every(isScope) ? saved.state : '',
    query.replace(/^\?/, ''),
  ];
  const all = parts.filter(Boolean).join('&');
  return all && `?${all}`;
}
