/**
 * The server's explanation of a query before the search: the position of an error, and the cost.
 */
import type { QueryPosition } from '../api/errors.ts';
import { readable } from '../format/number.ts';
import type { ExplainResponse } from '../gen/matyan/search/v1/search_pb.ts';

/** The text before, at and after an error, whose position is counted in characters. */
export function partsAround(text: string, error?: QueryPosition): [string, string, string] {
  if (!error) return [text, '', ''];
  const lines = text.split('\n');
  const start = lines.slice(0, error.line - 1).reduce((sum, line) => sum + line.length + 1, 0);
  const [from = 0, to = 0] = [error.column, Math.max(error.endColumn, error.column + 1)].map(
    column => start + [...(lines[error.line - 1] ?? '')].slice(0, column - 1).join('').length,
  );
  return [text.slice(0, from), text.slice(from, to) || ' ', text.slice(to)];
}

/** The server counts no further. */
const MOST_CANDIDATES = 10_000n;

/** How many runs a search has to check. */
export function costOf({
  fullScan,
  candidates,
}: Pick<ExplainResponse, 'fullScan' | 'candidates'>): string {
  if (fullScan) return 'checks every run';
  const more = candidates < MOST_CANDIDATES ? '' : ' or more';
  return `checks ${readable(Number(candidates))}${more} ${candidates === 1n ? 'run' : 'runs'}`;
}
