/** Moves runs to the bin and back, and tells the reader what has happened. */
import { ApiError } from '../api/errors.ts';
import { binRuns, MovedRuns, restoreRuns, type RunPages } from '../api/run_edits.ts';
import { readable } from '../format/number.ts';
import { toaster } from '../state/toasts.svelte.ts';

/** Largest number of ids in a message. */
const MAX_NAMED = 10;

/**
 * Returns a function that moves runs to the bin, and offers to bring them back. After a failure, another
 * call of this function continues, and finds only the runs that are left. `onback` is called
 * once an undo has brought runs back.
 */
export function binMove(onback = (): void => {}): (pages: RunPages) => Promise<MovedRuns> {
  const moved = new MovedRuns();
  return async pages => {
    try {
      await binRuns(pages, moved);
    } catch (error) {
      sayBinned(moved.ids.size, moved.all, onback);
      throw error;
    }
    const ids = moved.all;
    sayBinned(ids.length, ids, onback);
    sayUnknown(moved.unknown.size);
    return moved;
  };
}

/** Brings runs back from the bin, and says how many came back. */
export async function restoreFromBin(pages: RunPages): Promise<void> {
  const moved = new MovedRuns();
  await restoreRuns(pages, moved);
  const count = moved.ids.size;
  if (count > 0)
    toaster.info(count === 1 ? 'The run is back.' : `${readable(count)} runs are back.`);
  sayUnknown(moved.unknown.size);
  if (moved.damaged.size > 0) sayDamaged([...moved.damaged], 'brought back');
}

/** Names runs that the server could not move because it cannot read them. */
export function sayDamaged(
  ids: readonly string[],
  state: 'brought back' | 'moved to the bin',
): void {
  const what = ids.length === 1 ? 'The run is' : `${readable(ids.length)} runs are`;
  const message = `${what} damaged and cannot be ${state}: ${namedIds(ids)}`;
  const hint = 'Delete for good what you do not need; the log of the server names the damage.';
  toaster.error(new ApiError(message, 'Bin', hint, false, ''));
}

/** Some ids, and the number of the others. */
export function namedIds(ids: readonly string[]): string {
  const more = ids.length - MAX_NAMED;
  const named = ids.slice(0, MAX_NAMED).join(', ');
  return more > 0 ? `${named} and ${readable(more)} more` : named;
}

/** Says how many runs are in the bin, with an undo that brings the runs `ids` back. */
function sayBinned(count: number, ids: readonly string[], onback: () => void): void {
  if (count === 0) return;
  const what = count === 1 ? 'The run is' : `${readable(count)} runs are`;
  toaster.info(`${what} in the bin for a week.`, async () => {
    await restoreFromBin([[...ids]]);
    onback();
  });
}

function sayUnknown(count: number): void {
  if (count === 0) return;
  const what = count === 1 ? 'One run has' : `${readable(count)} runs have`;
  toaster.info(`${what} been deleted by someone else.`);
}
