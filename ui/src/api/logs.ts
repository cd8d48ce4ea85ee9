/**
 * Terminal lines and log records, in pieces. Followed logs are read from the last step on when the stream of changes
 * says that there is more: a stream for each of them would use up the browser's connections.
 */
import { LogService, type Line, type Record as LogRecord } from '../gen/matyan/logs/v1/logs_pb.ts';
import { type Urgency } from './read_queue.ts';
import { client, limited, queued } from './transport.ts';

export type LogRange = { start: number; stop?: number } | { tail: number };

function request(runId: string, range: LogRange): object {
  if ('tail' in range) return { runId, tail: range.tail };
  const stop = range.stop === undefined ? {} : { stop: BigInt(range.stop) };
  return { runId, steps: { start: BigInt(range.start), ...stop } };
}

/** `lastStep` is the highest of the whole log; -1 if it is empty. */
export function readLines(runId: string, range: LogRange, urgency: Urgency, signal?: AbortSignal) {
  return queued('LogService.Lines', urgency, signal, async () => {
    const piece = { lines: [] as Line[], lastStep: -1 };
    for await (const response of client(LogService).lines(request(runId, range), limited(signal))) {
      piece.lines.push(...response.lines);
      piece.lastStep = Math.max(piece.lastStep, Number(response.lastStep ?? -1n));
    }
    return piece;
  });
}

/** `count` is the number of records in the whole log. */
export function readRecords(runId: string, range: LogRange, urgency: Urgency, signal?: AbortSignal) {
  return queued('LogService.Records', urgency, signal, async () => {
    const piece = { records: [] as LogRecord[], count: 0 };
    for await (const response of client(LogService).records(request(runId, range), limited(signal))) {
      piece.records.push(...response.records);
      piece.count = Number(response.count);
    }
    return piece;
  });
}
