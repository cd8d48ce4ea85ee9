/** Changes that a reader makes to runs. The stream of changes shows their result on every page. */
import type { DescMessage, DescMethodUnary, MessageInitShape } from '@bufbuild/protobuf';

import { RunService, type BinnedRun } from '../gen/matyan/runs/v1/runs_pb.ts';
import { Urgency } from './read_queue.ts';
import { readRuns } from './runs.ts';
import { client, gathered, limited, queued, unary } from './transport.ts';

/**
 * Half of `Limits.runs_per_call`: the server changes about a hundred runs at a time, and has a
 * minute for all.
 */
const RUNS_PER_CALL = 5_000;

/** Ids of runs, in pages that may be read while the runs before them are changed. */
export type RunPages = Iterable<string[]> | AsyncIterable<string[]>;

export interface RunEdit {
  name?: string;
  description?: string;
}

const { method } = RunService;

/** Pages that are small enough for a call. */
async function* callPages(pages: RunPages): AsyncGenerator<string[]> {
  for await (const ids of pages)
    for (let at = 0; at < ids.length; at += RUNS_PER_CALL) yield ids.slice(at, at + RUNS_PER_CALL);
}

async function batches<I extends DescMessage>(
  method: DescMethodUnary<I, DescMessage>,
  pages: RunPages,
  change: (runIds: string[]) => MessageInitShape<I>,
): Promise<void> {
  for await (const ids of callPages(pages)) await unary(method, change(ids));
}

export async function updateRun(runId: string, change: RunEdit): Promise<void> {
  await unary(method.update, { runId, ...change });
}

/** The tag is created if missing. */
export function addTag(pages: RunPages, value: string): Promise<void> {
  const tag = { case: 'tagName' as const, value };
  return batches(method.addTagBatch, pages, runIds => ({ runIds, tag }));
}

export function removeTag(pages: RunPages, value: string): Promise<void> {
  const tag = { case: 'tagId' as const, value };
  return batches(method.removeTagBatch, pages, runIds => ({ runIds, tag }));
}

/** The experiment is created if missing; without a name, the runs have none. */
export function moveRuns(pages: RunPages, value: string): Promise<void> {
  const experiment = value
    ? { case: 'experimentName' as const, value }
    : { case: 'noExperiment' as const, value: true };
  return batches(method.moveBatch, pages, runIds => ({ runIds, experiment }));
}

/** The ids of the runs that are archived, or that are not. */
export async function* whereArchived(pages: RunPages, archived: boolean): AsyncGenerator<string[]> {
  for await (const ids of callPages(pages)) {
    const runs = await readRuns(ids, { props: true }, Urgency.Visible);
    yield ids.filter(id => runs.get(id)?.props?.archived === archived);
  }
}

export function archiveRuns(pages: RunPages, archived: boolean): Promise<void> {
  return batches(method.archiveBatch, pages, runIds => ({ runIds, archived }));
}

/** Hides runs for a week, after which they are deleted. */
export function binRuns(pages: RunPages): Promise<void> {
  return batches(method.binBatch, pages, runIds => ({ runIds }));
}

/** Brings runs back from the bin. */
export function restoreRuns(pages: RunPages): Promise<void> {
  return batches(method.restoreBatch, pages, runIds => ({ runIds }));
}

/** The runs in the bin, the last that was moved there first. */
export function readBin(signal?: AbortSignal): Promise<BinnedRun[]> {
  return queued('RunService.ListBin', Urgency.Visible, signal, () =>
    gathered(client(RunService).listBin({}, limited(signal)), page => page.runs),
  );
}

/** Deletes runs for good, whether they are in the bin or not. */
export function deleteRuns(pages: RunPages): Promise<void> {
  return batches(method.deleteBatch, pages, runIds => ({ runIds }));
}
