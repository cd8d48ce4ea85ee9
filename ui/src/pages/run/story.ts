/**
 * The story of a run in a few words: its params, how it was started, and its place among others.
 */
import { isMap, type CborValue } from '../../api/cbor.ts';
import { findRuns } from '../../api/runs.ts';
import { plainContext } from '../../format/context.ts';
import { summaryPart } from '../../format/goals.svelte.ts';
import { isKeptByClient } from '../../format/importance.ts';
import { plainText } from '../../format/value.ts';
import type { SeriesInfo } from '../../gen/matyan/runs/v1/run_pb.ts';
import { experimentCondition, metricText } from '../../query/conditions.ts';
import { paramRows } from './param_rows.ts';

type Params = { [key: string]: CborValue };

export interface StoryRow {
  title: string;
  value: CborValue;
}

const HYPERPARAMS = 'hparams';
/** Largest number of params; the others are in their own tab. */
const MAX_PARAMS = 12;
const SHORT_HASH = 12;

/**
 * The params that readers tune come first, and those that clients keep are left out. `rest` is the
 * number of all that are left out.
 */
export function mainParams(params: Params): { rows: StoryRow[]; rest: number } {
  const all = paramRows(params).filter(({ isGroup, value }) => !isGroup && value !== undefined);
  const isTuned = ({ segments }: { segments: readonly string[] }): boolean =>
    segments[0] === HYPERPARAMS && segments.length > 1;
  const rows = all
    .filter(({ segments }) => !isKeptByClient(segments))
    .toSorted((a, b) => Number(isTuned(b)) - Number(isTuned(a)))
    .map(row => ({
      title: (isTuned(row) ? row.segments.slice(1) : row.segments).join('.'),
      value: row.value as CborValue,
    }));
  const shown = rows.slice(0, MAX_PARAMS);
  return { rows: shown, rest: all.length - shown.length };
}

/** The command and the revision of the code, as far as they are known. */
export function originOf(environment: Params): StoryRow[] {
  const { executable, arguments: given, git_info: git } = environment;
  const own = Array.isArray(given) ? given.map(plainText) : [];
  const program = plainText(executable).split('/').at(-1) ?? '';
  const command = [program, ...own].filter(Boolean).join(' ');
  const revision: Params = isMap(git) ? git : {};
  const commit: Params = isMap(revision.commit) ? revision.commit : {};
  const rows: [title: string, text: string][] = [
    ['Command', command],
    ['Commit', plainText(commit.hash).slice(0, SHORT_HASH)],
    ['Branch', plainText(revision.branch)],
    ['Author', plainText(commit.author)],
  ];
  return rows.filter(([, text]) => text !== '').map(([title, value]) => ({ title, value }));
}

export interface Rank {
  place: number;
  of: number;
}

/**
 * The place of a run among the runs of its experiment, by the value of a metric that stands for it.
 */
export async function readRank(
  experiment: string,
  { name, context }: Pick<SeriesInfo, 'name' | 'context'>,
  own: number | undefined,
  isLower: boolean,
  signal: AbortSignal,
): Promise<Rank | undefined> {
  if (own === undefined || !Number.isFinite(own)) return undefined;
  const value = `${metricText(name, plainContext(context))}.${summaryPart(name)}`;
  const count = async (operator: string): Promise<number> => {
    const query = `${experimentCondition(experiment)} and ${value} ${operator} ${own}`;
    return (await findRuns(query, { limit: 1, idsOnly: true, count: true }, signal)).count;
  };
  const [better, others] = await Promise.all(
    isLower ? [count('<'), count('>=')] : [count('>'), count('<=')],
  );
  return { place: (better ?? 0) + 1, of: (better ?? 0) + (others ?? 0) };
}

/** `1st`, `2nd`, `3rd`, `11th`. */
export function ordinal(place: number): string {
  const isTeen = Math.floor(place / 10) % 10 === 1;
  const end = isTeen ? 'th' : (['th', 'st', 'nd', 'rd'][place % 10] ?? 'th');
  return `${place}${end}`;
}
