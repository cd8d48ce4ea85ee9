/**
 * Reads series for charts: what the cache has is shown immediately, only what is missing is read. One call serves all
 * series of a chart, and each series is shown as it arrives.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';

import type { StepRangeSchema } from '../gen/matyan/common/v1/common_pb.ts';
import { BucketColumn, BucketsRequestSchema, SeriesService } from '../gen/matyan/series/v1/series_pb.ts';
import type { BucketsRequest } from '../gen/matyan/series/v1/series_pb.ts';
import { groupBy } from '../collections.ts';
import { readSeriesBuckets } from './columns.ts';
import { rawMessages } from './raw_stream.ts';
import { type Urgency } from './read_queue.ts';
import { SeriesCache, type CacheEntry, type SeriesRef, type StepView } from './series_cache.ts';
import { seriesData, tailStart, type SeriesData } from './series_data.ts';
import { limited, queued } from './transport.ts';

const COLUMNS = [
  BucketColumn.MIN,
  BucketColumn.MAX,
  BucketColumn.LAST,
  BucketColumn.LAST_STEP,
  BucketColumn.NOT_FINITE,
];

export const seriesCache = new SeriesCache();

interface SeriesLoad {
  refs: SeriesRef[];
  urgency: Urgency;
  signal: AbortSignal;
  /** Called with the index of a series in `refs` whenever there is something to draw. */
  show: (index: number, data: SeriesData) => void;
}

/** Steps of a series to read: those of the view, or the tail of an entry that is stale. */
interface Part extends Pick<StepView, 'from' | 'to'> {
  entry?: CacheEntry;
}

/** Shows what is in the cache, maybe in less detail, then what arrives. Resolves when everything is up to date. */
export async function loadSeries(load: SeriesLoad, view: StepView): Promise<void> {
  const { refs, urgency, signal, show } = load;
  const parts = new Map<number, Part>();
  for (const [index, ref] of refs.entries()) {
    const hit = seriesCache.lookup(ref, view);
    if (hit) show(index, hit.entry.data);
    if (hit?.isFineEnough && !hit.entry.isStale) continue;
    // An empty series has no tail: it is read as if it were missing.
    const from = hit?.isFineEnough ? tailStart(hit.entry.data) : undefined;
    parts.set(index, hit && from !== undefined ? { from, to: hit.entry.view.to, entry: hit.entry } : view);
  }
  if (parts.size === 0) return;
  await queued('SeriesService.Buckets', urgency, signal, async () => {
    const { request, places } = bucketsRequest(refs, parts, view);
    // A change that arrives during the read makes the result stale.
    const { changes } = seriesCache;
    for await (const bytes of rawMessages(SeriesService.method.buckets, request, limited(signal))) {
      const columns = readSeriesBuckets(bytes);
      const index = places[columns.run]?.[columns.series] ?? NaN;
      const [ref, part] = [refs[index], parts.get(index)];
      if (!ref || !part) continue;
      const data = seriesData(columns);
      if (part.entry) seriesCache.extend(part.entry, part.from ?? 0, data, changes);
      show(index, (part.entry ?? seriesCache.store(ref, view, data, changes)).data);
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
  parts: ReadonlyMap<number, Part>,
  view: StepView,
): { request: BucketsRequest; places: number[][] } {
  const { runs, places } = byRun(refs, [...parts.keys()]);
  const range = (index: number): MessageInitShape<typeof StepRangeSchema> => {
    const { from, to } = parts.get(index) ?? view;
    return {
      ...(from !== undefined && { start: BigInt(Math.floor(from)) }),
      ...(to !== undefined && { stop: BigInt(Math.floor(to)) + 1n }),
    };
  };
  const views = [view, ...[...parts.values()].flatMap(({ entry }) => entry?.view ?? [])];
  const request = create(BucketsRequestSchema, {
    runs: runs.map((run, at) => ({ ...run, steps: places[at]?.map(range) ?? [] })),
    pixels: Math.max(1, ...views.map(({ pixels }) => Math.round(pixels))),
    columns: views.some(({ hasTimes }) => hasTimes) ? [...COLUMNS, BucketColumn.LAST_TIME] : COLUMNS,
  });
  return { request, places };
}
