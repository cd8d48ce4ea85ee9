/**
 * Terminal lines and log records, in pieces. Followed logs are read from the last step on when the
 * run has changed.
 */
import { LogService } from '../gen/matyan/logs/v1/logs_pb.ts';
import type { Urgency } from './read_queue.ts';
import { client, gathered, limited, queued } from './transport.ts';

export type LogRange = { start: number; stop?: number } | { tail: number };

function request(runId: string, range: LogRange): object {
  if ('tail' in range) return { runId, tail: range.tail };
  const stop = range.stop === undefined ? {} : { stop: BigInt(range.stop) };
  return { runId, steps: { start: BigInt(range.start), ...stop } };
}

/** `lastStep` is the highest of the whole log; -1 if it is empty. */
export function readLines(runId: string, range: LogRange, urgency: Urgency, signal?: AbortSignal) {
  return queued('LogService.Lines', urgency, signal, async () => {
    const stream = client(LogService).lines(request(runId, range), limited(signal));
    const pieces = await gathered(stream, one => [one]);
    const lastStep = Math.max(-1, ...pieces.map(one => Number(one.lastStep ?? -1n)));
    return { lines: pieces.flatMap(({ lines }) => lines), lastStep };
  });
}

/** `count` is the number of records in the whole log. */
export function readRecords(
  runId: string,
  range: LogRange,
  urgency: Urgency,
  signal?: AbortSignal,
) {
  return queued('LogService.Records', urgency, signal, async () => {
    const stream = client(LogService).records(request(runId, range), limited(signal));
    const pieces = await gathered(stream, one => [one]);
    return {
      records: pieces.flatMap(({ records }) => records),
      count: Number(pieces.at(-1)?.count ?? 0),
    };
  });
}
