/** Why a page has nothing to show of the runs that it has read, and what would show more. */
import { readable } from '../format/number.ts';

/** The runs that a page has looked at. */
export interface Looked {
  query: string;
  /** How many runs match the query, how many of them were read, and how many are not hidden. */
  found: number;
  read: number;
  shown: number;
}

/** The remedy: show hidden runs, read more runs, leave the query, or log something. */
export type Remedy = 'show' | 'more' | 'query' | 'log';

export function lackOf(
  what: string,
  { query, found, read, shown }: Looked,
): { title: string; remedy: Remedy } {
  const ofQuery = query === '' ? '' : ' of this query';
  if (read === 0 && query !== '') return { title: 'No run matches this query', remedy: 'query' };
  if (shown < read) {
    const runs = shown === 1 ? 'The only run that is shown' : `The ${readable(shown)} shown runs`;
    return { title: `${runs} ${shown === 1 ? 'has' : 'have'} no ${what}`, remedy: 'show' };
  }
  if (read < found) {
    const title = `The newest ${readable(read)} runs${ofQuery} have no ${what}`;
    return { title, remedy: 'more' };
  }
  if (query !== '') return { title: `No run of this query has ${what}`, remedy: 'query' };
  return { title: `No ${what} yet`, remedy: 'log' };
}
