/** Changes that a reader makes to runs. The stream of changes shows their result on every page. */
import type { DescMessage, DescMethodUnary, MessageInitShape } from '@bufbuild/protobuf';

import { RunService, type BinnedRun } from '../gen/matyan/runs/v1/runs_pb.ts';
import { Urgency } from './read_queue.ts';
import { readRuns } from './runs.ts';
import { client, limited, queued, unary } from './transport.ts';

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

/** The progress of calls that move runs into the bin, or out of it. */
export class MovedRuns {
  readonly ids = new Set<string>();
  /** Runs that the server cannot read, and so cannot move. */
  readonly damaged = new Set<string>();
  /** Runs that no longer exist, or that someone else has moved. */
  readonly unknown = new Set<string>();
  /** Runs of calls that failed. The server may have moved some of them. */
  readonly tried = new Set<string>();

  /** All runs that may have been moved. */
  get all(): string[] {
    return [...new Set([...this.ids, ...this.tried])];
  }

  /** Notes the answer to a call. */
  note(ids: readonly string[], unknown: readonly string[], damaged: readonly string[]): void {
    for (const id of damaged) this.damaged.add(id);
    // A run that an earlier call has moved is not found any more.
    for (const id of unknown) {
      if (!this.tried.has(id) && !this.ids.has(id)) this.unknown.add(id);
    }
    for (const id of ids) {
      this.tried.delete(id);
      if (!this.damaged.has(id) && !this.unknown.has(id)) this.ids.add(id);
    }
  }
}

interface MoveAnswer {
  unknown: string[];
  damaged: string[];
}

async function moveBatches(
  pages: RunPages,
  moved: MovedRuns,
  move: (runIds: string[]) => Promise<MoveAnswer>,
): Promise<void> {
  for await (const runIds of callPages(pages)) {
    try {
      const { unknown, damaged } = await move(runIds);
      moved.note(runIds, unknown, damaged);
    } catch (error) {
      for (const id of runIds) moved.tried.add(id);
      throw error;
    }
  }
}

/** Hides runs for a week, after which they are deleted. */
export function binRuns(pages: RunPages, moved: MovedRuns): Promise<void> {
  return moveBatches(pages, moved, runIds => unary(method.binBatch, { runIds }));
}

/** Brings runs back from the bin. */
export function restoreRuns(pages: RunPages, moved: MovedRuns): Promise<void> {
  return moveBatches(pages, moved, runIds => unary(method.restoreBatch, { runIds }));
}

export interface BinPage {
  runs: BinnedRun[];
  /** Start of the next page; empty: there is no next page. */
  nextCursor: string;
}

/** A page of the runs in the bin, the last that was moved there first. */
export function readBin(limit: number, cursor = '', signal?: AbortSignal): Promise<BinPage> {
  return queued('RunService.ListBin', Urgency.Visible, signal, async () => {
    const page: BinPage = { runs: [], nextCursor: '' };
    for await (const message of client(RunService).listBin({ limit, cursor }, limited(signal))) {
      for (const run of message.runs) page.runs.push(run);
      page.nextCursor = message.nextCursor;
    }
    return page;
  });
}

/** The ids of all runs in the bin, which are read while the runs before them are changed. */
export async function* wholeBin(): AsyncGenerator<string[]> {
  let cursor = '';
  do {
    const { runs, nextCursor } = await readBin(RUNS_PER_CALL, cursor);
    yield runs.map(({ run }) => run?.runId ?? '');
    cursor = nextCursor;
  } while (cursor);
}

/** Deletes runs for good, whether they are in the bin or not. */
export function deleteRuns(pages: RunPages): Promise<void> {
  return batches(method.deleteBatch, pages, runIds => ({ runIds }));
}
