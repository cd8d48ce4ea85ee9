/**
 * Live changes for pages. What the cache has is marked as stale first, then the pages that listen are called. A hidden
 * tab reads nothing: its pages get all changes at the moment when it is shown.
 */
import { liveRuns, type LiveMessage, type LiveState } from '../api/live.ts';
import { seriesCache } from '../api/series.ts';
import type { RunChange } from '../gen/matyan/runs/v1/runs_pb.ts';

export interface LiveListener {
  onchanges: (changes: readonly RunChange[]) => void;
  /** Changes were missed: read everything again. */
  onreset: () => void;
}

let state = $state<LiveState>('connecting');
const listeners = new Set<LiveListener>();
/** The last change of each run since the tab was hidden. */
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

function receive(message: LiveMessage): void {
  if (message.kind === 'state') state = message.state;
  else if (message.kind === 'reset') for (const { onreset } of listeners) onreset();
  else if (message.kind === 'changes') {
    for (const change of message.changes) {
      const { runId } = change;
      if (change.data) seriesCache.markChanged(runId);
      pending.set(runId, { ...change, data: change.data || pending.get(runId)?.data === true });
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
