/**
 * Images, audio, texts, distributions and figures of runs. Sequences are read thinned to some steps and without
 * payloads; the payloads of what is in view are read some at a time, and kept within a limit.
 */
import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import type { Step } from '../gen/matyan/objects/v1/objects_pb.ts';
import { SearchService, type Warning } from '../gen/matyan/search/v1/search_pb.ts';
import { readBlobs } from './artifacts.ts';
import { Urgency } from './read_queue.ts';
import { client, limited, queued } from './transport.ts';

export interface MediaSequence {
  id: string;
  runId: string;
  runName: string;
  name: string;
  context: string;
  steps: Step[];
}

export interface MediaResult {
  sequences: MediaSequence[];
  warnings: Warning[];
}

/** More rows are not compared by eye. */
export const MAX_MEDIA_RUNS = 12;
/** Steps of a slider; a longer sequence is thinned evenly. Figures are read with all of their data. */
export function maxSteps(type: SeriesType): number {
  return type === SeriesType.FIGURES ? 20 : 50;
}
const MAX_PER_STEP = 16;

export function findMedia(text: string, type: SeriesType, signal?: AbortSignal): Promise<MediaResult> {
  return queued('SearchService.Objects', Urgency.Visible, signal, async () => {
    const all = new Map<string, MediaSequence>();
    const names = new Map<string, string>();
    const warnings: Warning[] = [];
    const request = {
      query: { text, timezoneOffsetMin: new Date().getTimezoneOffset() },
      type,
      selection: { recordDensity: maxSteps(type), indexDensity: MAX_PER_STEP },
      parts: { props: true },
      limit: MAX_MEDIA_RUNS,
    };
    for await (const response of client(SearchService).objects(request, limited(signal))) {
      warnings.push(...response.warnings);
      for (const { run, sequences } of response.runs) {
        const runId = run?.runId ?? '';
        // Only the first message about a run has its parts.
        if (run?.props) names.set(runId, run.props.name || runId);
        for (const { name, context, steps } of sequences) {
          const id = `${runId}/${name}/${context}`;
          const known = all.get(id);
          if (known) known.steps.push(...steps);
          else
            all.set(id, { id, runId, runName: names.get(runId) ?? runId, name, context, steps: [...steps] });
        }
      }
    }
    return { sequences: [...all.values()], warnings };
  });
}

type Payload = Uint8Array<ArrayBuffer>;

interface WaitingPayload {
  uri: string;
  signal: AbortSignal;
  resolve: (bytes: Payload) => void;
  reject: (error: unknown) => void;
}

const MAX_CACHED_BYTES = 64_000_000;
const MAX_BATCH = 24;
const GATHER_MS = 15;

const cached = new Map<string, Payload>();
let cachedBytes = 0;
let waiting: WaitingPayload[] = [];
let timer: ReturnType<typeof setTimeout> | undefined;

/** The payload of an object. Those that come into view together are read together. */
export function readPayload(uri: string, signal: AbortSignal): Promise<Payload> {
  const known = cached.get(uri);
  if (known) {
    keep(uri, known);
    return Promise.resolve(known);
  }
  return new Promise((resolve, reject) => {
    waiting.push({ uri, signal, resolve, reject });
    timer ??= setTimeout(readWaiting, GATHER_MS);
  });
}

function readWaiting(): void {
  timer = undefined;
  // Skip those that have scrolled out of view in the meantime.
  const wanted = waiting.filter(({ signal }) => !signal.aborted);
  waiting = [];
  for (let at = 0; at < wanted.length; at += MAX_BATCH) void readBatch(wanted.slice(at, at + MAX_BATCH));
}

async function readBatch(batch: readonly WaitingPayload[]): Promise<void> {
  try {
    const read = await readBlobs([...new Set(batch.map(({ uri }) => uri))]);
    for (const [uri, bytes] of read) keep(uri, bytes);
    for (const { uri, resolve } of batch) resolve(read.get(uri) ?? new Uint8Array());
  } catch (error) {
    for (const { reject } of batch) reject(error);
  }
}

function keep(uri: string, bytes: Payload): void {
  cachedBytes += bytes.length - (cached.get(uri)?.length ?? 0);
  cached.delete(uri);
  cached.set(uri, bytes);
  for (const [old, { length }] of cached) {
    if (cachedBytes <= MAX_CACHED_BYTES) break;
    cached.delete(old);
    cachedBytes -= length;
  }
}
