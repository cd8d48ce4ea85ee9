/**
 * Searches for runs, from the server's table of the project: by position, sorted, counted and
 * grouped there.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';

import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import type { Run, RunPartsSchema, SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { RunService } from '../gen/matyan/runs/v1/runs_pb.ts';
import {
  SearchService,
  type ExplainResponse,
  type GroupsRequestSchema,
  type Query,
  type RunsRequestSchema,
  type SearchKind,
  type Warning,
} from '../gen/matyan/search/v1/search_pb.ts';
import { SeriesService } from '../gen/matyan/series/v1/series_pb.ts';
import { expressionOf } from '../query/conditions.ts';
import { published } from './published.ts';
import { Urgency } from './read_queue.ts';
import { client, gathered, limited, queued, unary } from './transport.ts';

export type RunParts = MessageInitShape<typeof RunPartsSchema>;
export type RunsRequest = MessageInitShape<typeof RunsRequestSchema> & { $typeName?: never };
export type GroupsRequest = MessageInitShape<typeof GroupsRequestSchema> & { $typeName?: never };

export interface FoundRuns {
  runs: Run[];
  /** Instead of `runs`, if the request wants only ids. */
  ids: string[];
  /** Number of matches, if the request wants it. */
  count: number;
  warnings: Warning[];
  /** Start of the next page of a request with a limit; empty: there is no next page. */
  nextCursor: string;
}

/** The message of a query in the form that the reader wrote. A published copy knows its searches by that form. */
export function queryOf(text: string): Pick<Query, 'text' | 'timezoneOffsetMin'> {
  const own = published ? text : expressionOf(text);
  return { text: own, timezoneOffsetMin: new Date().getTimezoneOffset() };
}

/** A run with very many series comes in several pieces. */
function collect(runs: Map<string, Run>, pieces: readonly Run[]): void {
  for (const piece of pieces) {
    const known = runs.get(piece.runId);
    if (known) known.series.push(...piece.series);
    else runs.set(piece.runId, piece);
  }
}

/** Finds matching runs, the newest first if the request has no order. */
export function findRuns(
  text: string,
  request: RunsRequest,
  signal?: AbortSignal,
  urgency = Urgency.Visible,
): Promise<FoundRuns> {
  return queued('SearchService.Runs', urgency, signal, async () => {
    const runs = new Map<string, Run>();
    const found: Omit<FoundRuns, 'runs'> = { ids: [], count: 0, warnings: [], nextCursor: '' };
    const search = client(SearchService).runs(
      { ...request, query: queryOf(text) },
      limited(signal),
    );
    for await (const response of search) {
      collect(runs, response.runs);
      for (const id of response.runIds) found.ids.push(id);
      found.warnings.push(...response.warnings);
      found.count = Number(response.matchCount ?? 0);
      found.nextCursor = response.nextCursor;
    }
    return { ...found, runs: [...runs.values()] };
  });
}

/** Runs of a part of a sample, and the number of parts. */
const SAMPLE_RUNS = 12;
const SAMPLE_PARTS = 4;
/** Runs with more metrics are left out. If all runs have more, `FEW_RUNS` of them are read. */
const MANY_METRICS = 1_000;
const FEW_RUNS = 2;

/**
 * Runs with their params and metrics, to choose columns from: the newest runs, and older runs
 * evenly from all runs that match. A value is about as frequent in the sample as in all these runs.
 */
export async function sampleRuns(text: string, signal?: AbortSignal): Promise<Run[]> {
  const parts = { params: true, seriesTypes: [SeriesType.METRIC], seriesLimit: MANY_METRICS };
  const read = (request: RunsRequest): Promise<FoundRuns> =>
    findRuns(text, { limit: SAMPLE_RUNS, parts, ...request }, signal);
  const newest = await read({ count: true });
  const distance = Math.max(SAMPLE_RUNS, Math.floor(newest.count / SAMPLE_PARTS));
  const positions = Array.from({ length: SAMPLE_PARTS - 1 }, (_, at) => (at + 1) * distance);
  const others = await Promise.all(
    positions
      .filter(position => position < newest.count)
      .map(position => read({ position: BigInt(position) })),
  );
  const runs = [newest, ...others].flatMap(({ runs }) => runs);
  const usual = runs.filter(({ seriesCount }) => seriesCount <= MANY_METRICS);
  if (usual.length > 0 || runs.length === 0) return usual;
  return (await findRuns(text, { limit: FEW_RUNS, parts: { ...parts, seriesLimit: 0 } }, signal))
    .runs;
}

export function findGroups(text: string, request: GroupsRequest, signal?: AbortSignal) {
  return unary(SearchService.method.groups, { ...request, query: queryOf(text) }, signal);
}

/** Reads runs by id; deleted runs are missing from the result. */
export function readRuns(
  runIds: string[],
  parts: RunParts,
  urgency: Urgency,
  signal?: AbortSignal,
) {
  if (runIds.length === 0) return Promise.resolve(new Map<string, Run>());
  return queued('RunService.BatchGet', urgency, signal, async () => {
    const found = new Map<string, Run>();
    for await (const { runs } of client(RunService).batchGet({ runIds, parts }, limited(signal)))
      collect(found, runs);
    return found;
  });
}

/** Returns `known` with newer data of the changed runs, and without deleted runs. */
export async function rereadRuns<T extends Pick<FoundRuns, 'runs'>>(
  found: T,
  ids: ReadonlySet<string>,
  parts: RunParts,
  signal: AbortSignal,
): Promise<T> {
  const newer = await readRuns([...ids], parts, Urgency.Refresh, signal);
  const runs = found.runs.flatMap(run =>
    ids.has(run.runId) ? (newer.get(run.runId) ?? []) : [run],
  );
  return { ...found, runs };
}

export async function readRun(runId: string, parts: RunParts, signal?: AbortSignal): Promise<Run> {
  const { run } = await unary(RunService.method.get, { runId, parts }, signal);
  if (!run) throw new Error('the response has no run');
  return run;
}

export function readMetrics(runId: string, signal?: AbortSignal): Promise<SeriesInfo[]> {
  const request = { runId, types: [SeriesType.METRIC] };
  return queued('SeriesService.List', Urgency.Visible, signal, () =>
    gathered(client(SeriesService).list(request, limited(signal)), ({ series }) => series),
  );
}

export function explainQuery(
  kind: SearchKind,
  text: string,
  signal?: AbortSignal,
): Promise<ExplainResponse> {
  return unary(SearchService.method.explain, { kind, query: queryOf(text) }, signal);
}

/** Proposes continuations of a query after its first `cursor` characters. */
export function completeQuery(
  kind: SearchKind,
  text: string,
  cursor: number,
  signal?: AbortSignal,
) {
  return unary(SearchService.method.complete, { kind, text, cursor }, signal);
}

const MAX_BY_NAME = 12;

/** Newest runs whose name contains a text, in any case. */
export async function findRunsByName(text: string, signal?: AbortSignal): Promise<Run[]> {
  const query = `${JSON.stringify(text.toLowerCase())} in run.name.lower()`;
  return (await findRuns(query, { parts: { props: true }, limit: MAX_BY_NAME }, signal)).runs;
}
