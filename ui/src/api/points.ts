/** Every logged point of some series as CSV, exact to the bit: numbers are written so that they read back as the same. */
import type { SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { SeriesService } from '../gen/matyan/series/v1/series_pb.ts';
import { reads, Urgency } from './read_queue.ts';
import { call, client } from './transport.ts';

const HEADER = 'run,metric,context,step,epoch,time_us,value\n';
/** Marks a point without an epoch. */
const NO_EPOCH = -(2n ** 63n);

/** Without a deadline: a series of ten million points takes as long as it takes. */
export function readCsv(runId: string, series: readonly SeriesInfo[], signal?: AbortSignal): Promise<Blob> {
  return reads.run(Urgency.Visible, signal, () =>
    call('SeriesService.Points', async () => {
      const pieces: string[] = [HEADER];
      const request = {
        run: { runId, numbers: series.map(({ number }) => number) },
        columns: { values: true, epochs: true, times: true },
      };
      for await (const { points } of client(SeriesService).points(request, { signal })) {
        if (!points) continue;
        const info = series[points.place?.series ?? 0];
        const prefix = [runId, info?.name ?? '', info?.context ?? ''].map(quoted).join(',');
        const { steps, epochs, timesUs, values } = points;
        pieces.push(
          steps.map((step, at) => line(prefix, step, epochs[at], timesUs[at], values[at])).join(''),
        );
      }
      return new Blob(pieces, { type: 'text/csv' });
    }),
  );
}

function line(prefix: string, step: bigint, epoch?: bigint, time?: bigint, value?: number): string {
  return `${prefix},${step},${epoch === undefined || epoch === NO_EPOCH ? '' : epoch},${time ?? ''},${csvNumber(value)}\n`;
}

/** As Python writes it, which most readers of CSV understand. */
export function csvNumber(value: number | undefined): string {
  if (value === undefined) return '';
  if (Number.isFinite(value)) return Object.is(value, -0) ? '-0.0' : String(value);
  return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}

function quoted(text: string): string {
  // A leading sign of a formula would be executed by spreadsheets.
  const safe = /^[=+@\t\r-]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
