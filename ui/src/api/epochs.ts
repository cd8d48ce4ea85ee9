/** Epochs of series, thinned evenly over the steps. Buckets have none. */
import { create } from '@bufbuild/protobuf';

import { SampleRequestSchema, SeriesService } from '../gen/matyan/series/v1/series_pb.ts';
import { NO_EPOCH, readSeriesPoints } from './columns.ts';
import { JoinedReads, type JoinedLoad } from './joined_reads.ts';
import { rawMessages } from './raw_stream.ts';
import type { Urgency } from './read_queue.ts';
import { byRun } from './series.ts';
import type { SeriesRef } from './series_cache.ts';
import { EMPTY_SERIES } from './series_data.ts';
import { limited } from './transport.ts';

/** A value for some steps, both ascending by step. */
export interface StepValues {
  steps: Float64Array;
  values: Float64Array;
}

/** Epochs change rarely; more points would only take longer. */
const DENSITY = 500;

interface EpochLoad extends JoinedLoad {
  refs: readonly SeriesRef[];
  missing: Map<number, StepValues>;
  values: StepValues[];
}

const epochReads = new JoinedReads<EpochLoad>('SeriesService.Sample', sampleEpochs);

/** In the order of `refs`; a series without epochs has no values. */
export async function readEpochs(
  refs: readonly SeriesRef[],
  urgency: Urgency,
  signal: AbortSignal,
): Promise<StepValues[]> {
  const values = refs.map(() => ({ steps: EMPTY_SERIES.steps, values: EMPTY_SERIES.last }));
  await epochReads.read({ refs, urgency, signal, missing: new Map(values.entries()), values });
  return values;
}

async function sampleEpochs(all: readonly EpochLoad[], signal: AbortSignal): Promise<void> {
  const wanted = all.flatMap(one => [...one.missing.keys()].map(index => ({ ...one, index })));
  const { runs, places } = byRun(wanted.map(({ refs, index }) => refs[index] as SeriesRef));
  const request = create(SampleRequestSchema, {
    runs,
    density: DENSITY,
    columns: { epochs: true },
  });
  for await (const bytes of rawMessages(SeriesService.method.sample, request, limited(signal))) {
    const { run, series, steps, epochs } = readSeriesPoints(bytes);
    const isKnown = (_: number, at: number): boolean => (epochs[at] ?? NO_EPOCH) !== NO_EPOCH;
    const one = wanted[places[run]?.[series] ?? NaN];
    if (!one) continue;
    one.values[one.index] = { steps: steps.filter(isKnown), values: epochs.filter(isKnown) };
    one.missing.delete(one.index);
  }
}
