/** The list of runs next to charts: its order, and the metric whose value it shows. */
import { byName } from '../collections.ts';
import { SYSTEM_PREFIX } from '../format/context.ts';
import { importance, summaryOf } from '../format/goals.svelte.ts';
import type { Run, SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import type { RUN_ORDERS } from '../state/routes.ts';

export type RunOrder = (typeof RUN_ORDERS)[number];
export type ListedMetric = Pick<SeriesInfo, 'name' | 'context'>;

/** More are not read in a list to choose from. */
const MAX_METRICS = 200;

export function metricKey({ name, context }: ListedMetric): string {
  return `${name} ${context}`;
}

/** Metrics of some of the runs, results first, and then the metrics that most runs have. */
export function listedMetrics(runs: readonly Run[]): ListedMetric[] {
  const counts = new Map<string, { metric: ListedMetric; count: number }>();
  for (const { series } of runs) {
    for (const info of series) {
      if (info.name.startsWith(SYSTEM_PREFIX)) continue;
      const key = metricKey(info);
      const known = counts.get(key);
      if (known) known.count += 1;
      else counts.set(key, { metric: info, count: 1 });
    }
  }
  const rank = ({ metric }: { metric: ListedMetric }): number =>
    importance(metric.name, metric.context);
  return [...counts.values()]
    .sort((a, b) => rank(b) - rank(a) || b.count - a.count || byName(a.metric.name, b.metric.name))
    .slice(0, MAX_METRICS)
    .map(({ metric }) => metric);
}

export function valueOf({ series }: Run, metric: ListedMetric): number | undefined {
  const found = series.find(info => metricKey(info) === metricKey(metric));
  return found && summaryOf(found);
}

/** `runs` are the newest first. Runs without a value come last in every order of values. */
export function listRuns(
  runs: readonly Run[],
  order: RunOrder,
  metric: ListedMetric | undefined,
): readonly Run[] {
  const nameOf = ({ runId, props }: Run): string => props?.name || runId;
  if (order === 'name') return runs.toSorted((a, b) => byName(nameOf(a), nameOf(b)));
  if (order === 'newest' || !metric) return runs;
  const sign = order === 'lowest' ? 1 : -1;
  const values = new Map(runs.map(run => [run, valueOf(run, metric)]));
  const place = (run: Run): number => {
    const value = values.get(run);
    return value === undefined || Number.isNaN(value) ? Infinity : sign * value;
  };
  const places = new Map(runs.map(run => [run, place(run)]));
  return runs.toSorted((a, b) => {
    const left = places.get(a) ?? Infinity;
    const right = places.get(b) ?? Infinity;
    return left === right ? 0 : left - right;
  });
}
