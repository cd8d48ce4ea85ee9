/**
 * Searches for runs, and rows of the runs table by random access. A search returns all ids once, in order; the rows in
 * view are then read by id, a page at a time. So a table of 100,000 runs is sorted once, not once per page.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';

import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import type { Run, RunPartsSchema, SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { RunService } from '../gen/matyan/runs/v1/runs_pb.ts';
import {
  SearchService,
  type SearchKind,
  type ExplainResponse,
  type SortSchema,
  type Warning,
} from '../gen/matyan/search/v1/search_pb.ts';
import { SeriesService } from '../gen/matyan/series/v1/series_pb.ts';
import { Urgency } from './read_queue.ts';
import { client, limited, queued } from './transport.ts';

export type RunParts = MessageInitShape<typeof RunPartsSchema>;
export type RunSort = MessageInitShape<typeof SortSchema>;

export interface RunIds {
  ids: string[];
  warnings: Warning[];
}

/** UTC minus local time in minutes, as the API wants it for dates in queries. */
function timezoneOffsetMin(): number {
  return new Date().getTimezoneOffset();
}

/** Finds the ids of all matching runs. `onProgress` gets their number while the search runs. */
export function findRuns(
  text: string,
  sort: RunSort[],
  signal?: AbortSignal,
  onProgress: (count: number) => void = () => {},
): Promise<RunIds> {
  return queued('SearchService.Runs', Urgency.Visible, signal, async () => {
    const found: RunIds = { ids: [], warnings: [] };
    const query = { text, timezoneOffsetMin: timezoneOffsetMin() };
    const request = { query, sort, idsOnly: true };
    for await (const response of client(SearchService).runs(request, limited(signal))) {
      for (const id of response.runIds) found.ids.push(id);
      found.warnings.push(...response.warnings);
      onProgress(found.ids.length);
    }
    return found;
  });
}

/** A run with very many series comes in several pieces. */
function collect(runs: Map<string, Run>, pieces: readonly Run[]): void {
  for (const piece of pieces) {
    const known = runs.get(piece.runId);
    if (known) known.series.push(...piece.series);
    else runs.set(piece.runId, piece);
  }
}

/** Finds the newest matching runs, with some of their data. */
export function findNewest(
  text: string,
  parts: RunParts,
  limit: number,
  signal?: AbortSignal,
): Promise<{ runs: Run[]; warnings: Warning[] }> {
  return queued('SearchService.Runs', Urgency.Visible, signal, async () => {
    const [runs, warnings] = [new Map<string, Run>(), [] as Warning[]];
    const request = { query: { text, timezoneOffsetMin: timezoneOffsetMin() }, parts, limit };
    for await (const response of client(SearchService).runs(request, limited(signal))) {
      warnings.push(...response.warnings);
      collect(runs, response.runs);
    }
    return { runs: [...runs.values()], warnings };
  });
}

/** Reads runs by id; those that were deleted are missing from the result. */
export function readRuns(
  runIds: string[],
  parts: RunParts,
  urgency: Urgency,
  signal?: AbortSignal,
): Promise<Map<string, Run>> {
  if (runIds.length === 0) return Promise.resolve(new Map());
  return queued('RunService.BatchGet', urgency, signal, async () => {
    const found = new Map<string, Run>();
    for await (const { runs } of client(RunService).batchGet({ runIds, parts }, limited(signal)))
      collect(found, runs);
    return found;
  });
}

/** A text literal of the query language. */
export function queryText(text: string): string {
  return JSON.stringify(text);
}

export function readRun(runId: string, parts: RunParts, signal?: AbortSignal): Promise<Run> {
  return queued('RunService.Get', Urgency.Visible, signal, async () => {
    const { run } = await client(RunService).get({ runId, parts }, limited(signal));
    if (!run) throw new Error('the response has no run');
    return run;
  });
}

/** Lists the metrics of a run. */
export function readMetrics(runId: string, urgency: Urgency, signal?: AbortSignal): Promise<SeriesInfo[]> {
  return queued('SeriesService.List', urgency, signal, async () => {
    const series: SeriesInfo[] = [];
    const request = { runId, types: [SeriesType.METRIC] };
    for await (const response of client(SeriesService).list(request, limited(signal)))
      series.push(...response.series);
    return series;
  });
}

/** Checks a query without running it. */
export function explainQuery(kind: SearchKind, text: string, signal?: AbortSignal): Promise<ExplainResponse> {
  const query = { text, timezoneOffsetMin: timezoneOffsetMin() };
  return queued('SearchService.Explain', Urgency.Visible, signal, () =>
    client(SearchService).explain({ kind, query }, limited(signal)),
  );
}

const MAX_BY_NAME = 12;

/** Newest runs whose name contains a text, whatever its case. */
export async function findRunsByName(text: string, signal?: AbortSignal): Promise<Run[]> {
  const query = `${queryText(text.toLowerCase())} in run.name.lower()`;
  return (await findNewest(query, { props: true }, MAX_BY_NAME, signal)).runs;
}
