/** Live changes for pages: marks what the cache has as stale first, then calls the pages that listen. */
import { liveRuns, type LiveState } from '../api/live.ts';
import { seriesCache } from '../api/series.ts';
import type { RunChange } from '../gen/matyan/runs/v1/runs_pb.ts';

export interface LiveListener {
  onchanges: (changes: readonly RunChange[]) => void;
  /** Changes were missed: read everything again. */
  onreset: () => void;
}

let state = $state<LiveState>('connecting');
const listeners = new Set<LiveListener>();

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
    return liveRuns.subscribe(message => {
      if (message.kind === 'state') state = message.state;
      else if (message.kind === 'reset') for (const listener of listeners) listener.onreset();
      else if (message.kind === 'changes') {
        for (const { runId, data } of message.changes) if (data) seriesCache.markChanged(runId);
        for (const listener of listeners) listener.onchanges(message.changes);
      }
    });
  },
};
