/** Metrics of a run as charts: one for each name, with a line for each context. */
import type { SeriesInfo } from '../../gen/matyan/runs/v1/run_pb.ts';
import { groupBy } from '../../group_by.ts';
import { SYSTEM_PREFIX } from '../runs/columns.ts';

export interface SeriesGroup {
  name: string;
  series: SeriesInfo[];
}

/** Groups by name, in the order of names; what the client logs about the machine comes last. */
export function groupByName(all: readonly SeriesInfo[]): SeriesGroup[] {
  const groups = groupBy(all, ({ name }) => name);
  const order = new Intl.Collator('en', { numeric: true });
  const isSystem = ({ name }: SeriesGroup): number => (name.startsWith(SYSTEM_PREFIX) ? 1 : 0);
  return [...groups]
    .map(([name, series]) => ({ name, series }))
    .sort((a, b) => isSystem(a) - isSystem(b) || order.compare(a.name, b.name));
}

/** Names that contain the text, or match it as a regular expression if it is written as `/text/`. */
export function filterGroups(groups: readonly SeriesGroup[], text: string): SeriesGroup[] {
  const wanted = text.trim();
  if (wanted === '') return [...groups];
  const expression = /^\/(.+)\/$/.exec(wanted)?.[1];
  if (expression !== undefined) {
    try {
      const pattern = new RegExp(expression, 'i');
      return groups.filter(({ name }) => pattern.test(name));
    } catch {
      // An expression is often incomplete while it is typed.
      return [];
    }
  }
  return groups.filter(({ name }) => name.toLowerCase().includes(wanted.toLowerCase()));
}
