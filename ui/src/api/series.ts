/** Reads series for charts: cached data is shown immediately, missing data as it arrives. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';

import type { StepRangeSchema } from '../gen/matyan/common/v1/common_pb.ts';
import {
  BucketColumn,
  BucketsRequestSchema,
  SeriesService,
} from '../gen/matyan/series/v1/series_pb.ts';
import { groupBy } from '../collections.ts';
import { readSeriesBuckets } from './columns.ts';
import { JoinedReads } from './joined_reads.ts';
import { rawMessages } from './raw_stream.ts';
import type { Urgency } from './read_queue.ts';
import { SeriesCache, type CacheEntry, type SeriesRef, type StepView } from './series_cache.ts';
import { seriesData, tailStart, type SeriesData } from './series_data.ts';
import { limited } from './transport.ts';

const COLUMNS = [
  BucketColumn.MIN,
  BucketColumn.MAX,
  BucketColumn.LAST,
  BucketColumn.LAST_STEP,
  BucketColumn.NOT_FINITE,
];

export const seriesCache = new SeriesCache();

interface SeriesLoad {
  refs: readonly SeriesRef[];
  urgency: Urgency;
  signal: AbortSignal;
  /** Called with the index of a series in `refs` whenever there is something to draw. */
  show: (index: number, data: SeriesData) => void;
}

type Ends = Pick<StepView, 'from' | 'to'>;

/** Steps of a series to read: the steps of the view, or the tail of a stale entry. */
interface Part extends Ends {
  entry?: CacheEntry;
  /** The entry has changed during the read, and lacks the data of the read. */
  isLost?: boolean;
}

/** A load with the parts that the cache does not have. */
interface PartialLoad extends SeriesLoad {
  view: StepView;
  missing: Map<number, Part>;
}

const bucketReads = new JoinedReads<PartialLoad>('SeriesService.Buckets', readBuckets);

/**
 * Shows the cached data, maybe in less detail, then the data that arrives. Resolves when everything
 * is up to date.
 */
export async function loadSeries(load: SeriesLoad, view: StepView): Promise<void> {
  const { refs, show } = load;
  const missing = new Map<number, Part>();
  for (const [index, ref] of refs.entries()) {
    const hit = seriesCache.lookup(ref, view);
    if (hit) show(index, hit.entry.data);
    if (hit?.isFineEnough && !hit.entry.isStale) continue;
    // An empty series has no tail: it is read as if it were missing.
    const from = hit?.isFineEnough ? tailStart(hit.entry.data) : undefined;
    missing.set(
      index,
      hit && from !== undefined ? { from, to: hit.entry.view.to, entry: hit.entry } : view,
    );
  }
  if (missing.size === 0) return;
  const parts = [...missing.values()];
  await bucketReads.read({ ...load, view, missing }, `${view.pixels} ${view.hasTimes}`);
  if (parts.some(({ isLost }) => isLost)) await loadSeries(load, view);
}

async function readBuckets(all: readonly PartialLoad[], signal: AbortSignal): Promise<void> {
  const wanted = all.flatMap(one =>
    [...one.missing].map(([index, part]) => ({ ...one, index, part })),
  );
  const refs = wanted.map(one => one.refs[one.index] as SeriesRef);
  const { runs, places } = byRun(refs);
  // A tail has the detail of the entry to which it is appended.
  const views = wanted.map(({ view, part }) => part.entry?.view ?? view);
  const request = create(BucketsRequestSchema, {
    runs: runs.map((run, at) => ({
      ...run,
      steps: places[at]?.map(place => stepRange(wanted[place]?.part)) ?? [],
    })),
    pixels: Math.max(1, ...views.map(({ pixels }) => Math.round(pixels))),
    columns: views.some(({ hasTimes }) => hasTimes)
      ? [...COLUMNS, BucketColumn.LAST_TIME]
      : COLUMNS,
  });
  // A change that arrives during the read makes the result stale.
  const { changes } = seriesCache;
  for await (const bytes of rawMessages(SeriesService.method.buckets, request, limited(signal))) {
    const columns = readSeriesBuckets(bytes);
    const at = places[columns.run]?.[columns.series] ?? NaN;
    const ref = refs[at];
    const one = wanted[at];
    if (!ref || !one) continue;
    const { part, index, view } = one;
    const data = seriesData(columns);
    if (part.entry) part.isLost = !seriesCache.extend(part.entry, part.from ?? 0, data, changes);
    const entry = part.entry ?? seriesCache.store(ref, view, data, changes);
    one.missing.delete(index);
    if (!one.signal.aborted) one.show(index, entry.data);
  }
}

/** Series grouped by run, as the API wants them, with the indexes of the series of each run. */
export function byRun(refs: readonly SeriesRef[]): {
  runs: { runId: string; numbers: number[] }[];
  places: number[][];
} {
  const groups = groupBy([...refs.keys()], at => (refs[at] as SeriesRef).runId);
  const number = (at: number): number => (refs[at] as SeriesRef).number;
  const runs = [...groups].map(([runId, own]) => ({ runId, numbers: own.map(number) }));
  return { runs, places: [...groups.values()] };
}

export function stepRange({ from, to }: Ends = {}): MessageInitShape<typeof StepRangeSchema> {
  return {
    ...(from !== undefined && { start: BigInt(Math.floor(from)) }),
    ...(to !== undefined && { stop: BigInt(Math.floor(to)) + 1n }),
  };
}
