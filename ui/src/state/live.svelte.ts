/**
 * Live changes for pages. What the cache has is marked as stale first, then the pages that listen are called. A hidden
 * tab reads nothing: its pages get all changes at the moment when it is shown.
 */
import { liveRuns, type LiveMessage, type LiveState } from '../api/live.ts';
import { seriesCache } from '../api/series.ts';
import { RunPart, type RunChange } from '../gen/matyan/runs/v1/runs_pb.ts';
import type { Reading } from './reading.svelte.ts';

export interface LiveListener {
  onchanges: (changes: readonly RunChange[]) => void;
  /** Changes were missed: read everything again. */
  onreset: () => void;
}

let state = $state<LiveState>('connecting');
const listeners = new Set<LiveListener>();
/** The changes of each run since the tab was hidden, as one. */
const pending = new Map<string, RunChange>();

export const live = {
  get state(): LiveState {
    return state;
  },
  /** Returns a function that ends it, as effects want it. */
  listen(listener: LiveListener): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  /** Called once, when the page is loaded. */
  start(): () => void {
    const end = liveRuns.subscribe(receive);
    document.addEventListener('visibilitychange', deliver);
    return () => {
      end();
      document.removeEventListener('visibilitychange', deliver);
    };
  },
};

/** Whether one of these parts of a run may have changed; the server does not always know. */
export function concerns({ parts }: RunChange, ...wanted: (RunPart | undefined)[]): boolean {
  return parts.length === 0 || parts.some(part => wanted.includes(part));
}

/** What queries for runs depend on. */
export const QUERIED = [RunPart.PROPERTIES, RunPart.PARAMS, RunPart.METRICS];

/**
 * Reads what a query finds again when a run changes: another one may match from now on, or one of `shown` no longer.
 * Returns how often those got more points. Call it while a component is set up.
 */
export function follow(reading: Reading<unknown>, shown: () => readonly { runId: string }[]): () => number {
  let dataVersion = $state(0);
  const onchanges = (all: readonly RunChange[]): void => {
    const changes = all.filter(change => concerns(change, ...QUERIED));
    const known = new Set(shown().map(({ runId }) => runId));
    if (changes.some(({ runId, data }) => data && known.has(runId))) dataVersion += 1;
    if (changes.some(({ runId, change }) => change.case === 'run' || known.has(runId))) reading.refresh();
  };
  $effect(() => live.listen({ onchanges, onreset: reading.retry }));
  return () => dataVersion;
}

function receive(message: LiveMessage): void {
  if (message.kind === 'state') state = message.state;
  else if (message.kind === 'reset') for (const { onreset } of listeners) onreset();
  else if (message.kind === 'changes') {
    for (const change of message.changes) {
      const { runId, seriesEdits } = change;
      const isEdited = change.data && seriesCache.markChanged(runId, seriesEdits);
      const before = pending.get(runId);
      const isUnknown = isEdited || change.parts.length === 0 || before?.parts.length === 0;
      const parts = isUnknown ? [] : [...change.parts, ...(before?.parts ?? [])];
      pending.set(runId, { ...change, data: change.data || before?.data === true, parts });
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
