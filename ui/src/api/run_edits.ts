/** Changes that a reader makes to runs. The stream of changes shows their result on every page. */
import { RunService } from '../gen/matyan/runs/v1/runs_pb.ts';
import { reads, Urgency } from './read_queue.ts';
import { call, client, limited } from './transport.ts';

/** Half of `Limits.runs_per_call`: the server changes about a hundred runs at a time, and has a minute for all. */
const RUNS_PER_CALL = 5_000;

export interface RunEdit {
  name?: string;
  description?: string;
  /** Name of the experiment, created if missing; empty for none. */
  experiment?: string;
}

/** Ids of runs, in pages that may be read while the runs before them are changed. */
export type RunPages = Iterable<string[]> | AsyncIterable<string[]>;

const runs = client(RunService);

function edit<T>(method: string, run: () => Promise<T>): Promise<T> {
  return reads.run(Urgency.Visible, undefined, () => call(`RunService.${method}`, run));
}

/** Calls that change one run each; the queue of reads limits how many run at a time. */
async function each(pages: RunPages, change: (runId: string) => Promise<unknown>): Promise<void> {
  for await (const ids of pages) await Promise.all(ids.map(change));
}

async function batches(pages: RunPages, change: (runIds: string[]) => Promise<unknown>): Promise<void> {
  for await (const ids of pages)
    for (let at = 0; at < ids.length; at += RUNS_PER_CALL) await change(ids.slice(at, at + RUNS_PER_CALL));
}

export function updateRuns(pages: RunPages, change: RunEdit): Promise<void> {
  return each(pages, runId => edit('Update', () => runs.update({ runId, ...change }, limited())));
}

export function addTag(pages: RunPages, name: string): Promise<void> {
  return each(pages, runId => edit('AddTag', () => runs.addTag({ runId, name }, limited())));
}

export async function removeTag(runId: string, tagId: string): Promise<void> {
  await edit('RemoveTag', () => runs.removeTag({ runId, tagId }, limited()));
}

export function archiveRuns(pages: RunPages, archived: boolean): Promise<void> {
  return batches(pages, runIds =>
    edit('ArchiveBatch', () => runs.archiveBatch({ runIds, archived }, limited())),
  );
}

export function deleteRuns(pages: RunPages): Promise<void> {
  return batches(pages, runIds => edit('DeleteBatch', () => runs.deleteBatch({ runIds }, limited())));
}
