import { archiveRuns, type RunPages } from '../api/run_edits.ts';
import { toaster } from '../state/toasts.svelte.ts';

export function archive(pages: () => RunPages, isArchived: boolean, ondone = (): void => {}): void {
  toaster.during(async () => {
    await archiveRuns(pages(), isArchived);
    const archived = 'Archived. Queries with run.archived == True find it.';
    toaster.info(isArchived ? archived : 'Back in lists and searches.');
    ondone();
  });
}
