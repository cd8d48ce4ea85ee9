/** The last queries of this browser in the project, newest first, in its local storage. */
import { projectName } from '../api/transport.ts';

const KEY = `matyan-queries ${projectName}`.trimEnd();
const MAX_RECENT = 12;

let queries = $state.raw<readonly string[]>(read());

export const recent = {
  get queries(): readonly string[] {
    return queries;
  },
  add(text: string): void {
    const query = text.trim();
    if (query === '' || query === queries[0]) return;
    // Another tab may have added some.
    queries = [query, ...read().filter(other => other !== query)].slice(0, MAX_RECENT);
    try {
      localStorage.setItem(KEY, JSON.stringify(queries));
    } catch {
      // A full or forbidden storage must not break the page; the list lasts until it is left.
    }
  },
};

function read(): string[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(stored) ? stored.filter(one => typeof one === 'string').slice(0, MAX_RECENT) : [];
  } catch {
    return [];
  }
}
