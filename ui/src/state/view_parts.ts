/** The query of an address in its parts: the scope of the workspace, and the rest of a page. */
import { scope } from './routes.ts';

export interface ViewParts {
  scope: string;
  page: string;
}

/** The field that names the open view is left out of all parts. Equal states have equal parts. */
export function viewParts(query: string): ViewParts {
  const all = [...new URLSearchParams(query)].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const isScope = (name: string): boolean => Object.hasOwn(scope, name);
  const written = (own: [string, string][]): string => new URLSearchParams(own).toString();
  return {
    scope: written(all.filter(([name]) => isScope(name) && name !== 'named')),
    page: written(all.filter(([name]) => !isScope(name))),
  };
}

/** The parts as the query of an address, with the id of their view. */
export function joinParts({ scope, page }: ViewParts, named: string): string {
  const query = [named && `named=${encodeURIComponent(named)}`, scope, page]
    .filter(Boolean)
    .join('&');
  return query && `?${query}`;
}
