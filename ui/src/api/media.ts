/**
 * Images, audio, texts, distributions, figures, pages and point clouds of runs. Payloads are read one by one, so that
 * the browser caches them.
 */
import { Code, ConnectError } from '@connectrpc/connect';

import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import type { Step } from '../gen/matyan/objects/v1/objects_pb.ts';
import { SearchService, type Warning } from '../gen/matyan/search/v1/search_pb.ts';
import { dataUrl, published } from './published.ts';
import { Urgency } from './read_queue.ts';
import { queryOf } from './runs.ts';
import { stepRange } from './series.ts';
import { signIn } from './sign_in.ts';
import { client, limited, queued, rootPath, serverPath } from './transport.ts';

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
  /** Older runs have such objects too. */
  hasMoreRuns: boolean;
}

/** Steps to read, between two or all, and whether all objects of each are read. */
export interface MediaPart {
  since: number | undefined;
  until: number | undefined;
  whole: boolean;
}

/**
 * Steps of a slider; a longer sequence is thinned evenly. Figures are read with all of their data.
 */
export function maxSteps(type: SeriesType): number {
  return type === SeriesType.FIGURES ? 20 : 50;
}
const MAX_PER_STEP = 16;

/** Finds objects of the newest runs that have any, `limit` at most. */
export function findMedia(
  text: string,
  type: SeriesType,
  limit: number,
  { since, until, whole }: MediaPart,
  signal?: AbortSignal,
): Promise<MediaResult> {
  return queued('SearchService.Objects', Urgency.Visible, signal, async () => {
    const all = new Map<string, MediaSequence>();
    const names = new Map<string, string>();
    const warnings: Warning[] = [];
    let hasMoreRuns = false;
    const request = {
      query: queryOf(text),
      type,
      selection: {
        recordRange: stepRange({ from: since, to: until }),
        recordDensity: maxSteps(type),
        indexDensity: whole ? 0 : MAX_PER_STEP,
      },
      parts: { props: true },
      limit,
    };
    for await (const response of client(SearchService).objects(request, limited(signal))) {
      warnings.push(...response.warnings);
      hasMoreRuns = response.nextCursor !== '';
      for (const { run, sequences } of response.runs) {
        const runId = run?.runId ?? '';
        // Only the first message about a run has its parts.
        if (run?.props) names.set(runId, run.props.name || runId);
        for (const { name, context, steps } of sequences) {
          const id = `${runId}/${name}/${context}`;
          const known = all.get(id);
          if (known) known.steps.push(...steps);
          else
            all.set(id, {
              id,
              runId,
              runName: names.get(runId) ?? runId,
              name,
              context,
              steps: [...steps],
            });
        }
      }
    }
    return { sequences: [...all.values()], warnings, hasMoreRuns };
  });
}

const UNAUTHENTICATED = 401;
const MISSING = 404;
/** Statuses of images that cannot be reduced: unknown formats, and images that are too large. */
const IRREDUCIBLE = [400, MISSING, 413, 415, 422];
const CODES: { [status: number]: Code } = {
  [UNAUTHENTICATED]: Code.Unauthenticated,
  403: Code.PermissionDenied,
};

/**
 * Fetches a path. An error of the server has the server's text, unless its status is one of
 * `allowed`.
 */
async function get(
  path: string,
  signal: AbortSignal,
  allowed: number[],
  /** The first bytes to read; absent: all. */
  length?: number,
): Promise<Response> {
  const headers: HeadersInit = length ? { range: `bytes=0-${length - 1}` } : {};
  const response = await fetch(path, { signal, headers });
  const { ok, status } = response;
  if (ok || allowed.includes(status)) return response;
  if (status === UNAUTHENTICATED) signIn.onRefused(serverPath);
  const { message } = (await response.json().catch(() => ({}))) as { message?: string };
  throw new ConnectError(message || `the server answered ${status}`, CODES[status] ?? Code.Unknown);
}

export function payloadUrl(uri: string): string {
  if (published) return dataUrl(rootPath, `payloads/${encodeURIComponent(uri)}`);
  return `${rootPath}api/v1/rest/payloads/${encodeURIComponent(uri)}`;
}

/** The address of a logged page, which must be opened in a frame without rights only. */
export function pageUrl(uri: string): string {
  return published ? payloadUrl(uri) : `${payloadUrl(uri)}/page`;
}

const EMPTY = 416;

/** Whether a payload is stored. */
export function checkPayload(uri: string, signal: AbortSignal): Promise<boolean> {
  return queued('The payload', Urgency.Visible, signal, async () => {
    if (!uri) return false;
    const { status } = await get(payloadUrl(uri), signal, [MISSING, EMPTY], 1);
    return status !== MISSING;
  });
}

/** The first bytes of a payload; a missing payload has none. */
export function readPayloadStart(
  uri: string,
  length: number,
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  return queued('The payload', Urgency.Visible, signal, async () => {
    if (!uri) return new Uint8Array();
    const response = await get(payloadUrl(uri), signal, [MISSING, EMPTY], length);
    return response.ok ? new Uint8Array(await response.arrayBuffer()) : new Uint8Array();
  });
}

/**
 * The payload of an object, or its image in at most `pixels`, from the browser's cache if it is
 * there.
 */
export function readPayload(
  uri: string,
  pixels: number | undefined,
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const path = payloadUrl(uri);
  return queued('The payload', Urgency.Visible, signal, async () => {
    const small = `${path}/thumbnail?size=${pixels}`;
    // A published copy has no reduced images.
    const reduced = pixels && !published ? await get(small, signal, IRREDUCIBLE) : undefined;
    const response = reduced?.ok ? reduced : await get(path, signal, [MISSING]);
    // A missing payload has no bytes.
    return response.ok ? new Uint8Array(await response.arrayBuffer()) : new Uint8Array();
  });
}
