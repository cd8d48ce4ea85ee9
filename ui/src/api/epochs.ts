/** Epochs of series, thinned evenly over the steps. Buckets have none. */
import { create } from '@bufbuild/protobuf';

import { SampleRequestSchema, SeriesService } from '../gen/matyan/series/v1/series_pb.ts';
import { NO_EPOCH, readSeriesPoints } from './columns.ts';
import { rawMessages } from './raw_stream.ts';
import type { Urgency } from './read_queue.ts';
import { byRun } from './series.ts';
import type { SeriesRef } from './series_cache.ts';
import { EMPTY_SERIES } from './series_data.ts';
import { limited, queued } from './transport.ts';

/** A value for some steps, both ascending by step. */
export interface StepValues {
  steps: Float64Array;
  values: Float64Array;
}

/** Epochs change rarely; more points would only take longer. */
const DENSITY = 500;

/** In the order of `refs`; a series without epochs has no values. */
export function readEpochs(
  refs: readonly SeriesRef[],
  urgency: Urgency,
  signal: AbortSignal,
): Promise<StepValues[]> {
  return queued('SeriesService.Sample', urgency, signal, async () => {
    const { runs, places } = byRun(refs);
    const all: StepValues[] = refs.map(() => ({ steps: EMPTY_SERIES.steps, values: EMPTY_SERIES.last }));
    const request = create(SampleRequestSchema, { runs, density: DENSITY, columns: { epochs: true } });
    for await (const bytes of rawMessages(SeriesService.method.sample, request, limited(signal))) {
      const { run, series, steps, epochs } = readSeriesPoints(bytes);
      const isKnown = (_: number, at: number): boolean => (epochs[at] ?? NO_EPOCH) !== NO_EPOCH;
      const at = places[run]?.[series];
      if (at !== undefined) all[at] = { steps: steps.filter(isKnown), values: epochs.filter(isKnown) };
    }
    return all;
  });
}
