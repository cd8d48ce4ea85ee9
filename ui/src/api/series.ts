/**
 * Reads series for charts: what the cache has is shown immediately, only what is missing is read. One call serves all
 * series of a chart, and each series is shown as it arrives.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';

import { BucketColumn, BucketsRequestSchema, SeriesService } from '../gen/matyan/series/v1/series_pb.ts';
import type { BucketsRequest } from '../gen/matyan/series/v1/series_pb.ts';
import { groupBy } from '../collections.ts';
import { readSeriesBuckets, type BucketColumns } from './columns.ts';
import { rawMessages } from './raw_stream.ts';
import { type Urgency } from './read_queue.ts';
import { commonTailStart, SeriesCache } from './series_cache.ts';
import type { CacheEntry, SeriesRef, StepView } from './series_cache.ts';
import { seriesData, type SeriesData } from './series_data.ts';
import { limited, queued } from './transport.ts';

const COLUMNS = [
  BucketColumn.MIN,
  BucketColumn.MAX,
  BucketColumn.LAST,
  BucketColumn.LAST_STEP,
  BucketColumn.NOT_FINITE,
];

export const seriesCache = new SeriesCache();

async function* readBuckets(request: BucketsRequest, signal?: AbortSignal): AsyncGenerator<BucketColumns> {
  for await (const bytes of rawMessages(SeriesService.method.buckets, request, limited(signal))) {
    yield readSeriesBuckets(bytes);
  }
}

interface SeriesLoad {
  refs: SeriesRef[];
  urgency: Urgency;
  signal: AbortSignal;
  /** Called with the index of a series in `refs` whenever there is something to draw. */
  show: (index: number, data: SeriesData) => void;
}

/** Shows what is in the cache, maybe in less detail, then what arrives. Resolves when everything is up to date. */
export async function loadSeries(load: SeriesLoad, view: StepView): Promise<void> {
  const { refs, show } = load;
  const missing: number[] = [];
  const stale: [index: number, entry: CacheEntry][] = [];
  refs.forEach((ref, index) => {
    const hit = seriesCache.lookup(ref, view);
    if (hit) show(index, hit.entry.data);
    if (!hit?.isFineEnough) missing.push(index);
    else if (hit.isStale) stale.push([index, hit.entry]);
  });
  // Empty series have no tail: they are read as if they were missing.
  const start = commonTailStart(stale.map(([, entry]) => entry));
  if (start === undefined) missing.push(...stale.splice(0).map(([index]) => index));
  await Promise.all([
    readEach(load, missing, view, (ref, index, data, changes) =>
      show(index, seriesCache.store(ref, view, data, changes).data),
    ),
    start === undefined ? undefined : readTails(load, stale, start),
  ]);
}

async function readTails(load: SeriesLoad, stale: [number, CacheEntry][], start: number): Promise<void> {
  const entries = new Map(stale);
  const pixels = Math.max(...stale.map(([, entry]) => entry.view.pixels));
  const to = Math.max(...stale.map(([, entry]) => entry.view.to ?? Infinity));
  const hasTimes = stale.some(([, entry]) => entry.view.hasTimes);
  const view = { from: start, to: Number.isFinite(to) ? to : undefined, pixels, hasTimes };
  await readEach(load, [...entries.keys()], view, (ref, index, tail, changes) => {
    const entry = entries.get(index) as CacheEntry;
    seriesCache.extend(ref, entry, start, tail, changes);
    load.show(index, entry.data);
  });
}

async function readEach(
  { refs, urgency, signal }: SeriesLoad,
  indexes: number[],
  view: StepView,
  use: (ref: SeriesRef, index: number, data: SeriesData, changes: number) => void,
): Promise<void> {
  if (indexes.length === 0) return;
  await queued('SeriesService.Buckets', urgency, signal, async () => {
    const { request, places } = bucketsRequest(refs, indexes, view);
    // A change that arrives during the read makes the result stale.
    const changes = new Map(refs.map(({ runId }) => [runId, seriesCache.changesOf(runId)]));
    for await (const columns of readBuckets(request, signal)) {
      const index = places[columns.run]?.[columns.series];
      const ref = refs[index ?? NaN];
      if (ref) use(ref, index as number, seriesData(columns), changes.get(ref.runId) ?? 0);
    }
  });
}

/** Some series grouped by run, as the API wants them, with the indexes of those of each run. */
export function byRun(
  refs: readonly SeriesRef[],
  indexes: readonly number[],
): { runs: { runId: string; numbers: number[] }[]; places: number[][] } {
  const groups = groupBy(indexes, at => (refs[at] as SeriesRef).runId);
  const numbers = (own: number[]): number[] => own.map(at => (refs[at] as SeriesRef).number);
  const runs = [...groups].map(([runId, own]) => ({ runId, numbers: numbers(own) }));
  return { runs, places: [...groups.values()] };
}

function bucketsRequest(
  refs: SeriesRef[],
  indexes: number[],
  { from, to, pixels, hasTimes }: StepView,
): { request: BucketsRequest; places: number[][] } {
  const { runs, places } = byRun(refs, indexes);
  const steps: MessageInitShape<typeof BucketsRequestSchema>['steps'] = {};
  if (from !== undefined) steps.start = BigInt(Math.floor(from));
  if (to !== undefined) steps.stop = BigInt(Math.floor(to)) + 1n;
  const request = create(BucketsRequestSchema, {
    runs,
    steps,
    pixels: Math.max(1, Math.round(pixels)),
    columns: hasTimes ? [...COLUMNS, BucketColumn.LAST_TIME] : COLUMNS,
  });
  return { request, places };
}
