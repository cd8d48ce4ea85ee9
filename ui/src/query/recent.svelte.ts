/** The last queries of this browser in the project, newest first, in its local storage. */
import { projectName } from '../api/transport.ts';

// Without a project the key has no suffix.
const KEY = `matyan-queries ${projectName}`.trimEnd();
const MAX_RECENT = 12;

class RecentQueries {
  queries = $state.raw<readonly string[]>(read());

  add(text: string): void {
    const query = text.trim();
    if (query === '' || query === this.queries[0]) return;
    // Another tab may have added some.
    this.queries = [query, ...read().filter(other => other !== query)].slice(0, MAX_RECENT);
    try {
      localStorage.setItem(KEY, JSON.stringify(this.queries));
    } catch {
      // A full or forbidden storage must not break the page; the list lasts until it is left.
    }
  }
}

export const recent = new RecentQueries();

function read(): string[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(stored)
      ? stored.filter(one => typeof one === 'string').slice(0, MAX_RECENT)
      : [];
  } catch {
    return [];
  }
}
