import { binRuns, restoreRuns, type RunPages } from '../api/run_edits.ts';
import { toaster } from '../state/toasts.svelte.ts';
import { recorded } from './archive.ts';

/** Moves runs to the bin, and offers to bring them back. */
export async function moveToBin(pages: RunPages): Promise<void> {
  const ids = new Set<string>();
  await binRuns(recorded(pages, ids));
  const what = ids.size === 1 ? 'The run is' : `${ids.size} runs are`;
  toaster.info(`${what} in the bin for a week.`, () => restoreRuns([[...ids]]));
}
