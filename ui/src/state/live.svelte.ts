/**
 * Live changes for pages, after the cache is marked as stale. A hidden tab reads nothing: it gets
 * all when it is shown.
 */
import { untrack } from 'svelte';

import { liveRuns, type LiveMessage, type LiveState } from '../api/live.ts';
import { published } from '../api/published.ts';
import { seriesCache } from '../api/series.ts';
import type { Run, SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { RunPart, type RunChange } from '../gen/matyan/runs/v1/runs_pb.ts';
import type { Reading } from './reading.svelte.ts';

export interface LiveListener {
  onchanges: (changes: readonly RunChange[]) => void;
  /** Changes were missed, so everything must be read. */
  onreset: () => void;
}

let state = $state<LiveState>('connecting');
const listeners = new Set<LiveListener>();
/** The changes of each run since the tab was hidden, combined into one. */
const pending = new Map<string, RunChange>();

export const live = {
  get state(): LiveState {
    return state;
  },
  /** Returns a function that ends the calls, as effects expect. */
  listen(listener: LiveListener): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  /** Called once, when the page is loaded. */
  start(): void {
    // A published copy never changes.
    if (published) return;
    liveRuns.subscribe(receive);
    document.addEventListener('visibilitychange', deliver);
  },
};

/**
 * Calls `retry` whenever the server is back after an outage. Call it while a component is set up.
 */
export function onReturn(retry: () => void): void {
  let wasLost = false;
  $effect(() => {
    if (state === 'live' && wasLost) untrack(retry);
    // Without an outage, a retry is likely to fail, too.
    wasLost = state === 'lost';
  });
}

/** Whether one of these parts of a run may have changed; the server does not always know. */
export function concerns({ parts }: RunChange, ...wanted: (RunPart | undefined)[]): boolean {
  return parts.length === 0 || parts.some(part => wanted.includes(part));
}

/** Whether a run may have other metrics than `known`, instead of more points of `known` metrics. */
export function hasOthers({ progress }: RunChange, known: readonly SeriesInfo[]): boolean {
  if (!progress) return true;
  const numbers = new Set(known.map(({ number }) => number));
  return progress.numbers.some(number => !numbers.has(number));
}

/** The parts of a run on which queries for runs depend. */
export const QUERIED = [RunPart.PROPERTIES, RunPart.PARAMS, RunPart.METRICS];

/**
 * Whether more points may change the result of a query. Only metrics in a query have values that
 * points change.
 */
export function isOfMetrics(query: string): boolean {
  return query.includes('metric');
}

/**
 * Rereads the result of a query when a run changes, because the run may start or cease to match. If
 * the change cannot do that, the patch of the reading rereads only the run: more points do not
 * change the results of most queries, and without a query `shown` are all runs that can be found. A
 * reading without a patch shows no values. Returns how often runs that are shown got more points.
 * Call it while a component is set up.
 */
export function follow<T>(
  reading: Reading<T>,
  shown: () => readonly Run[],
  query: () => string | undefined,
): () => number {
  let dataVersion = $state(0);
  const onchanges = (all: readonly RunChange[]): void => {
    const runs = new Map(shown().map(run => [run.runId, run]));
    const changes = all.filter(change => concerns(change, ...QUERIED));
    if (changes.some(({ runId, data }) => data && runs.has(runId))) dataVersion += 1;
    const text = query();
    for (const change of changes) {
      const run = runs.get(change.runId);
      const isPoints =
        !isOfMetrics(text ?? '') && !concerns(change, RunPart.PROPERTIES, RunPart.PARAMS);
      const mayMove = text !== undefined && !isPoints;
      if (run && !mayMove && reading.options.patch) reading.refreshPart(change.runId);
      else if (
        run ? mayMove || hasOthers(change, run.series) : mayMove && change.change.case === 'run'
      )
        reading.refresh();
    }
  };
  const onreset = (): void => {
    dataVersion += 1;
    reading.retry();
  };
  $effect(() => live.listen({ onchanges, onreset }));
  return () => dataVersion;
}

function receive(message: LiveMessage): void {
  if (message.kind === 'state') state = message.state;
  else if (message.kind === 'reset') {
    seriesCache.reset();
    for (const { onreset } of listeners) onreset();
  } else if (message.kind === 'changes') {
    for (const change of message.changes) {
      const { runId, seriesEdits, progress } = change;
      const isEdited = change.data && seriesCache.markChanged(runId, seriesEdits, progress);
      const before = pending.get(runId);
      // An edit, or several changes together, may concern any part and any series.
      const isUnknown = isEdited || before !== undefined;
      const data = change.data || before?.data === true;
      pending.set(runId, { ...change, data, ...(isUnknown && { parts: [], progress: undefined }) });
    }
    deliver();
  }
}

function deliver(): void {
  if (document.hidden || pending.size === 0) return;
  const changes = [...pending.values()];
  pending.clear();
  for (const { onchanges } of listeners) onchanges(changes);
}
