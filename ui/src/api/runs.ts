/**
 * Searches for runs, and rows of the runs table by random access. A search returns all ids once, in order; the rows in
 * view are then read by id, a page at a time. So a table of 100,000 runs is sorted once, not once per page.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';

import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import type { Run, RunPartsSchema, SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { RunService } from '../gen/matyan/runs/v1/runs_pb.ts';
import {
  SearchKind,
  SearchService,
  type ExplainResponse,
  type SortSchema,
  type Warning,
} from '../gen/matyan/search/v1/search_pb.ts';
import { SeriesService } from '../gen/matyan/series/v1/series_pb.ts';
import { reads, Urgency } from './read_queue.ts';
import { call, client, limited } from './transport.ts';

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
  return reads.run(Urgency.Visible, signal, () =>
    call('SearchService.Runs', async () => {
      const found: RunIds = { ids: [], warnings: [] };
      const query = { text, timezoneOffsetMin: timezoneOffsetMin() };
      for await (const response of client(SearchService).runs({ query, sort }, limited(signal))) {
        for (const run of response.runs) found.ids.push(run.runId);
        found.warnings.push(...response.warnings);
        onProgress(found.ids.length);
      }
      return found;
    }),
  );
}

/** Reads runs by id; those that were deleted are missing from the result. */
export function readRuns(
  ids: string[],
  parts: RunParts,
  urgency: Urgency,
  signal?: AbortSignal,
): Promise<Map<string, Run>> {
  if (ids.length === 0) return Promise.resolve(new Map());
  return reads.run(urgency, signal, () =>
    call('SearchService.Runs', async () => {
      const runs = new Map<string, Run>();
      // The second condition includes archived runs, which a search excludes otherwise.
      const text = `run.hash in (${ids.map(queryText).join(', ')},) and run.archived in (True, False)`;
      for await (const response of client(SearchService).runs({ query: { text }, parts }, limited(signal))) {
        for (const run of response.runs) {
          const known = runs.get(run.runId);
          // A run with very many series continues in the next message.
          if (known) known.series.push(...run.series);
          else runs.set(run.runId, run);
        }
      }
      return runs;
    }),
  );
}

/** A text literal of the query language. */
export function queryText(text: string): string {
  return JSON.stringify(text);
}

export function readRun(runId: string, parts: RunParts, signal?: AbortSignal): Promise<Run> {
  return reads.run(Urgency.Visible, signal, () =>
    call('RunService.Get', async () => {
      const { run } = await client(RunService).get({ runId, parts }, limited(signal));
      if (!run) throw new Error('the response has no run');
      return run;
    }),
  );
}

/** Lists the metrics of a run. */
export function readMetrics(runId: string, urgency: Urgency, signal?: AbortSignal): Promise<SeriesInfo[]> {
  return reads.run(urgency, signal, () =>
    call('SeriesService.List', async () => {
      const series: SeriesInfo[] = [];
      const request = { runId, types: [SeriesType.METRIC] };
      for await (const response of client(SeriesService).list(request, limited(signal)))
        series.push(...response.series);
      return series;
    }),
  );
}

/** Checks a query without running it. */
export function explainRuns(text: string, signal?: AbortSignal): Promise<ExplainResponse> {
  const query = { text, timezoneOffsetMin: timezoneOffsetMin() };
  return reads.run(Urgency.Visible, signal, () =>
    call('SearchService.Explain', () =>
      client(SearchService).explain({ kind: SearchKind.RUNS, query }, limited(signal)),
    ),
  );
}

const MAX_BY_NAME = 12;

/** Newest runs whose name contains a text, whatever its case. */
export function findRunsByName(text: string, signal?: AbortSignal): Promise<Run[]> {
  return reads.run(Urgency.Visible, signal, () =>
    call('SearchService.Runs', async () => {
      const runs: Run[] = [];
      const query = { text: `${queryText(text.toLowerCase())} in run.name.lower()` };
      const request = { query, limit: MAX_BY_NAME, parts: { props: true } };
      for await (const response of client(SearchService).runs(request, limited(signal)))
        runs.push(...response.runs);
      return runs;
    }),
  );
}
