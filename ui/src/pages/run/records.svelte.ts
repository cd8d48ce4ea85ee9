/** Log records of a run: the newest records, earlier records on request, and added records. */
import { decodeCbor, type CborValue } from '../../api/cbor.ts';
import { readRecords, type LogRange } from '../../api/logs.ts';
import { Urgency } from '../../api/read_queue.ts';
import type { Record as LogRecord } from '../../gen/matyan/logs/v1/logs_pb.ts';

/** Number of records in one read. */
const PIECE = 2_000;

export interface LogRow {
  step: number;
  message: string;
  level: number;
  /** Milliseconds since 1970; 0 if unknown. */
  ms: number;
  location: string;
  args: CborValue | undefined;
}

export class RecordLog {
  rows = $state.raw<readonly LogRow[]>();
  count = $state(0);

  constructor(readonly runId: string) {}

  get hasEarlier(): boolean {
    return (this.rows?.[0]?.step ?? 0) > 0 && (this.rows?.length ?? 0) < this.count;
  }

  update(signal: AbortSignal): Promise<void> {
    const last = this.rows?.at(-1)?.step;
    return this.#read(
      last === undefined ? { tail: PIECE } : { start: last + 1 },
      Urgency.Refresh,
      signal,
    );
  }

  readEarlier(): Promise<void> {
    const first = this.rows?.[0]?.step ?? 0;
    return this.#read({ start: Math.max(0, first - PIECE), stop: first }, Urgency.Visible);
  }

  async #read(range: LogRange, urgency: Urgency, signal?: AbortSignal): Promise<void> {
    const { records, count } = await readRecords(this.runId, range, urgency, signal);
    const all = new Map([...(this.rows ?? []), ...records.map(logRow)].map(row => [row.step, row]));
    this.rows = [...all.values()].sort((a, b) => a.step - b.step);
    this.count = count;
  }
}

function logRow({ step, message, level, timestamp, loggerInfo, args }: LogRecord): LogRow {
  const info = decoded(loggerInfo);
  return {
    step: Number(step),
    message,
    level: Number(level),
    ms: timestamp * 1000,
    location: Array.isArray(info) ? info.map(String).join(':') : '',
    args: decoded(args),
  };
}

/** A value that cannot be read must not hide the record. */
function decoded(bytes: Uint8Array): CborValue | undefined {
  try {
    return bytes.length === 0 ? undefined : decodeCbor(bytes);
  } catch {
    return undefined;
  }
}

const LEVELS = [
  [50, 'critical'],
  [40, 'error'],
  [30, 'warning'],
  [20, 'info'],
  [1, 'debug'],
] as const;

export function levelClass(level: number): string {
  return level >= 40 ? 'bad' : level >= 30 ? 'warn' : 'weak';
}

export function levelName(level: number): string {
  return LEVELS.find(([least]) => level >= least)?.[1] ?? '';
}
