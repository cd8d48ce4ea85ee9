/** Epochs of series, thinned evenly over the steps. Buckets have none. */
import { SeriesService } from '../gen/matyan/series/v1/series_pb.ts';
import type { Urgency } from './read_queue.ts';
import { byRun } from './series.ts';
import type { SeriesRef } from './series_cache.ts';
import { client, limited, queued } from './transport.ts';

/** A value for some steps, both ascending by step. */
export interface StepValues {
  steps: Float64Array;
  values: Float64Array;
}

const NO_EPOCH = -(2n ** 63n);
/** Epochs change rarely; more points would only take longer. */
const DENSITY = 500;

/** In the order of `refs`; a series without epochs has no values. */
export function readEpochs(
  refs: readonly SeriesRef[],
  urgency: Urgency,
  signal: AbortSignal,
): Promise<StepValues[]> {
  return queued('SeriesService.Sample', urgency, signal, async () => {
    const { runs, places } = byRun(refs, [...refs.keys()]);
    const all = refs.map((): [steps: number[], values: number[]] => [[], []]);
    const request = { runs, density: DENSITY, columns: { epochs: true } };
    for await (const { series } of client(SeriesService).sample(request, limited(signal)))
      for (const { place, steps, epochs } of series) {
        const own = all[places[place?.run ?? 0]?.[place?.series ?? 0] ?? -1];
        epochs.forEach((epoch, at) => {
          if (epoch === NO_EPOCH) return;
          own?.[0].push(Number(steps[at]));
          own?.[1].push(Number(epoch));
        });
      }
    return all.map(([steps, values]) => ({
      steps: Float64Array.from(steps),
      values: Float64Array.from(values),
    }));
  });
}
