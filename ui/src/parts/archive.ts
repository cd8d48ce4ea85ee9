import { archiveRuns, type RunPages } from '../api/run_edits.ts';
import { readable } from '../format/number.ts';
import { toaster } from '../state/toasts.svelte.ts';

/** The runs of a query are others once they are archived, so an undo needs their ids. */
async function* recorded(pages: RunPages, ids: Set<string>): AsyncGenerator<string[]> {
  for await (const page of pages) {
    for (const id of page) ids.add(id);
    yield page;
  }
}

/** `pages` has only runs that are not in that state yet: an undo changes all of them back. */
export function archive(pages: () => RunPages, isArchived: boolean, ondone = (): void => {}): void {
  // A retry finds only the runs that are left, but an undo changes the runs of all attempts.
  const ids = new Set<string>();
  toaster.during(async () => {
    await archiveRuns(recorded(pages(), ids), isArchived);
    const isOne = ids.size === 1;
    const count = isOne ? '1 run is' : `${readable(ids.size)} runs are`;
    const archived = `${count} archived. Queries with run.archived == True find ${isOne ? 'it' : 'them'}.`;
    const back = `${count} back in lists and searches.`;
    toaster.info(isArchived ? archived : back, async () => {
      await archiveRuns([[...ids]], !isArchived);
      ondone();
    });
    ondone();
  });
}
