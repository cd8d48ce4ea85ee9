import { readable } from './number.ts';

/** How many runs a page shows: `read` of the `found` runs were read, and some of them are hidden. */
export function runCount(shown: number, read: number, found = read): string {
  const newest = read < found ? 'the newest ' : '';
  if (shown < read) return `${readable(shown)} of ${newest}${readable(read)} shown`;
  if (newest) return `${newest}${readable(read)} of ${readable(found)} runs`;
  return `${readable(read)} ${read === 1 ? 'run' : 'runs'}`;
}
