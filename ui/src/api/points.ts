/**
 * Every logged point of some series as CSV, exact to the bit: numbers are written so that they read
 * back as the same.
 */
import { create } from '@bufbuild/protobuf';

import type { SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { PointsRequestSchema, SeriesService } from '../gen/matyan/series/v1/series_pb.ts';
import { csvNumber, csvText } from '../format/csv.ts';
import { groupBy } from '../collections.ts';
import { NO_EPOCH, readSeriesPoints, type PointColumns } from './columns.ts';
import { rawMessages } from './raw_stream.ts';
import { Urgency } from './read_queue.ts';
import { queued } from './transport.ts';

const HEADER = 'run,metric,context,step,epoch,time_us,value\n';

export interface RunSeries {
  runId: string;
  info: SeriesInfo;
}

/** The call has no deadline, because a series may have ten million points. */
export function readCsv(all: readonly RunSeries[], signal?: AbortSignal): Promise<Blob> {
  return queued('SeriesService.Points', Urgency.Visible, signal, async () => {
    const pieces: string[] = [HEADER];
    for (const [runId, series] of groupBy(all, ({ runId }) => runId)) {
      const request = create(PointsRequestSchema, {
        run: { runId, numbers: series.map(({ info }) => info.number) },
        columns: { values: true, epochs: true, times: true },
      });
      for await (const bytes of rawMessages(SeriesService.method.points, request, { signal })) {
        const points = readSeriesPoints(bytes);
        const info = series[points.series]?.info;
        pieces.push(
          csvLines([runId, info?.name ?? '', info?.context ?? ''].map(csvText).join(','), points),
        );
      }
    }
    return new Blob(pieces, { type: 'text/csv' });
  });
}

function csvLines(prefix: string, { steps, epochs, times, values }: PointColumns): string {
  let lines = '';
  for (let at = 0; at < steps.length; at++) {
    const epoch = epochs[at] ?? NO_EPOCH;
    const epochText = epoch === NO_EPOCH ? '' : epoch;
    const time = times[at] ?? '';
    lines += `${prefix},${steps[at]},${epochText},${time},${csvNumber(values[at])}\n`;
  }
  return lines;
}
