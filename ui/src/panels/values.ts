/** Values of runs, or of groups of runs, shown as bars and as one number. */
import { groupBy } from '../collections.ts';
import { plainContext } from '../format/context.ts';
import { isLowerBetter, summaryOf } from '../format/goals.svelte.ts';
import { readable } from '../format/number.ts';
import type { Run } from '../gen/matyan/runs/v1/run_pb.ts';
import type { NUMBERS } from './panels.ts';

export interface Bar {
  /** Id of the run, or the title of the group. */
  id: string;
  title: string;
  /** The value of a run, or the mean of a group. */
  value: number;
  low: number;
  high: number;
  /** The runs of the bar. A run by itself is one. */
  runs: readonly Run[];
}

interface RunValue {
  run: Run;
  value: number;
}

/** The value that stands for a run: of the series without a context, or of the first one. */
export function valueOf({ series }: Run, metric: string): number | undefined {
  const own = series.filter(({ name }) => name === metric);
  const plain = own.find(({ context }) => plainContext(context) === '') ?? own[0];
  return plain && summaryOf(plain);
}

function valuesOf(runs: readonly Run[], metric: string): RunValue[] {
  return runs.flatMap(run => {
    const value = valueOf(run, metric);
    return value !== undefined && Number.isFinite(value) ? [{ run, value }] : [];
  });
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** The best bar first; without a direction, the highest. */
export function barsOf(
  runs: readonly Run[],
  metric: string,
  groupOf?: (run: Run) => string,
): Bar[] {
  const idOf = ({ run }: RunValue): string => (groupOf ? groupOf(run) : run.runId);
  const bars = [...groupBy(valuesOf(runs, metric), idOf)].map(([id, all]): Bar => {
    const values = all.map(({ value }) => value);
    const [first] = all;
    const title = groupOf ? id || 'none' : first?.run.props?.name || id;
    const runs = all.map(({ run }) => run);
    return {
      ...{ id, title, runs, value: mean(values) },
      ...{ low: Math.min(...values), high: Math.max(...values) },
    };
  });
  const sign = isLowerBetter(metric) ? 1 : -1;
  return bars.sort((a, b) => sign * (a.value - b.value));
}

/** The ends of the axis of bars, which begin at zero. */
export function barExtent(bars: readonly Bar[]): { low: number; high: number } {
  const low = Math.min(0, ...bars.map(bar => bar.low));
  const high = Math.max(0, ...bars.map(bar => bar.high));
  return low === high ? { low, high: low + 1 } : { low, high };
}

/** The runs that a panel shows; empty if it shows all runs of its query. */
export function scopeText(runs: number, hasOlder: boolean): string {
  if (!hasOlder) return '';
  return runs === 1 ? 'of the newest run' : `of the newest ${readable(runs)} runs`;
}

/** Says that runs lack what a panel shows. Older runs, which were not read, may have it. */
export function lackText(what: string, query: string, runs: number, hasOlder: boolean): string {
  const ofQuery = query ? ' of this query' : '';
  if (!hasOlder) return `No run${ofQuery} has ${what}.`;
  if (runs === 1) return `The newest run${ofQuery} does not have ${what}.`;
  return `None of the newest ${readable(runs)} runs${ofQuery} has ${what}.`;
}

export interface RunNumber {
  /** Undefined if no run has the metric. */
  value: number | undefined;
  /** The run with the best value, if the number is one. */
  run: Run | undefined;
  /** How many runs have the metric. */
  count: number;
}

/** Without a direction, the highest value is the best. Without a metric, runs are counted. */
export function numberOf(
  runs: readonly Run[],
  metric: string,
  what: (typeof NUMBERS)[number],
): RunNumber {
  if (what === 'count') {
    const count = metric === '' ? runs.length : valuesOf(runs, metric).length;
    return { value: count, run: undefined, count };
  }
  const sign = isLowerBetter(metric) ? 1 : -1;
  const all = valuesOf(runs, metric).sort((a, b) => sign * (a.value - b.value));
  const [best] = all;
  const count = all.length;
  if (!best) return { value: undefined, run: undefined, count };
  if (what === 'best') return { value: best.value, run: best.run, count };
  const values = all.map(({ value }) => value);
  if (what === 'mean') return { value: mean(values), run: undefined, count };
  const low = values[(count - 1) >> 1] ?? 0;
  const high = values[count >> 1] ?? 0;
  return { value: (low + high) / 2, run: undefined, count };
}
