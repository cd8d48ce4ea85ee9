/** Changes that a reader makes to runs. The stream of changes shows their result on every page. */
import { RunService } from '../gen/matyan/runs/v1/runs_pb.ts';
import { reads, Urgency } from './read_queue.ts';
import { call, client, limited } from './transport.ts';

/** `Limits.runs_per_call` of the server is larger. */
const RUNS_PER_CALL = 500;

export interface RunEdit {
  name?: string;
  description?: string;
  /** Name of the experiment, created if missing; empty for none. */
  experiment?: string;
}

const runs = client(RunService);

function edit<T>(method: string, run: () => Promise<T>): Promise<T> {
  return reads.run(Urgency.Visible, undefined, () => call(`RunService.${method}`, run));
}

/** Calls that change one run each; the queue of reads limits how many run at a time. */
async function each(ids: readonly string[], change: (runId: string) => Promise<unknown>): Promise<void> {
  await Promise.all(ids.map(change));
}

async function batches(
  ids: readonly string[],
  change: (runIds: string[]) => Promise<unknown>,
): Promise<void> {
  for (let at = 0; at < ids.length; at += RUNS_PER_CALL) await change(ids.slice(at, at + RUNS_PER_CALL));
}

export function updateRuns(ids: readonly string[], change: RunEdit): Promise<void> {
  return each(ids, runId => edit('Update', () => runs.update({ runId, ...change }, limited())));
}

export function addTag(ids: readonly string[], name: string): Promise<void> {
  return each(ids, runId => edit('AddTag', () => runs.addTag({ runId, name }, limited())));
}

export async function removeTag(runId: string, tagId: string): Promise<void> {
  await edit('RemoveTag', () => runs.removeTag({ runId, tagId }, limited()));
}

export function archiveRuns(ids: readonly string[], archived: boolean): Promise<void> {
  return batches(ids, runIds =>
    edit('ArchiveBatch', () => runs.archiveBatch({ runIds, archived }, limited())),
  );
}

export function deleteRuns(ids: readonly string[]): Promise<void> {
  return batches(ids, runIds => edit('DeleteBatch', () => runs.deleteBatch({ runIds }, limited())));
}
