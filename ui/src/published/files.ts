/** Reads parts of the files of a published copy, by HTTP ranges if the web server has them. */
import { Code, ConnectError } from '@connectrpc/connect';

import { dataUrl } from '../api/published.ts';
import { rootPath } from '../api/transport.ts';
import type { PageList } from '../gen/matyan/published/v1/published_pb.ts';

export interface ByteRange {
  start: number;
  end: number;
}

/** Pages that are closer are read together: a separate request takes longer. */
const GAP_BYTES = 64 * 1024;
/** Most bytes of whole files that are kept, from a web server without ranges. */
const KEPT_BYTES = 256 * 1024 * 1024;

const PARTIAL = 206;

/** A whole file, which is still being read if its length is absent. */
interface WholeFile {
  reading: Promise<Uint8Array>;
  length?: number;
}

export class CopyFiles {
  /** Whether the web server answers with ranges: unknown before its first answer. */
  #hasRanges: boolean | undefined;
  readonly #whole = new Map<string, WholeFile>();
  readonly #offsets = new WeakMap<PageList, Float64Array>();
  #keptBytes = 0;

  constructor(
    readonly fetchFile: typeof fetch = (input, init) => globalThis.fetch(input, init),
    readonly urlOf = (path: string): string => dataUrl(rootPath, path),
    /** Bytes of whole files that are kept. */
    readonly limit = KEPT_BYTES,
  ) {}

  /** A whole file, which is not empty. */
  async read(path: string, signal?: AbortSignal): Promise<Uint8Array> {
    const response = await this.#get(path, 'bytes=0-', signal);
    this.#hasRanges ??= response.status === PARTIAL;
    return new Uint8Array(await response.arrayBuffer());
  }

  /** The first bytes of a file, which are not kept. */
  async start(path: string, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    const response = await this.#get(path, `bytes=0-${length - 1}`, signal);
    return complete(path, await readUpTo(response, length), length);
  }

  /** The pages with these indexes, which ascend. */
  async pages(
    path: string,
    list: PageList,
    indexes: readonly number[],
    signal?: AbortSignal,
  ): Promise<Uint8Array[]> {
    const ranges = indexes.map(at => this.#rangeOf(list, at));
    const parts = joinedRanges(ranges);
    const read = await Promise.all(parts.map(part => this.#part(path, part, signal)));
    return ranges.map(({ start, end }) => {
      const at = parts.findIndex(part => start >= part.start && end <= part.end);
      const from = start - (parts[at] as ByteRange).start;
      return (read[at] as Uint8Array).subarray(from, from + end - start);
    });
  }

  #rangeOf(list: PageList, at: number): ByteRange {
    let offsets = this.#offsets.get(list);
    if (!offsets) {
      offsets = new Float64Array(list.lengths.length + 1);
      offsets[0] = Number(list.offset);
      for (const [index, length] of list.lengths.entries())
        offsets[index + 1] = (offsets[index] as number) + length;
      this.#offsets.set(list, offsets);
    }
    return { start: offsets[at] ?? NaN, end: offsets[at + 1] ?? NaN };
  }

  async #part(path: string, { start, end }: ByteRange, signal?: AbortSignal): Promise<Uint8Array> {
    if (this.#hasRanges === false) return (await this.#wholeFile(path)).subarray(start, end);
    const response = await this.#get(path, `bytes=${start}-${end - 1}`, signal);
    const part =
      response.status === PARTIAL
        ? new Uint8Array(await response.arrayBuffer())
        : (await readUpTo(response, end)).subarray(start);
    return complete(path, part, end - start);
  }

  /** Shared by all readers, so none of them aborts it. */
  #wholeFile(path: string): Promise<Uint8Array> {
    const known = this.#whole.get(path);
    if (known) return known.reading;
    const whole: WholeFile = { reading: this.read(path) };
    this.#whole.set(path, whole);
    whole.reading.then(
      ({ length }) => this.#keep(whole, length),
      // Its readers get the error.
      () => this.#whole.delete(path),
    );
    return whole.reading;
  }

  /** Makes room for a file that has been read, but not among files that are still being read. */
  #keep(whole: WholeFile, length: number): void {
    whole.length = length;
    this.#keptBytes += length;
    for (const [path, other] of this.#whole) {
      if (this.#keptBytes <= this.limit) break;
      if (other === whole || other.length === undefined) continue;
      this.#whole.delete(path);
      this.#keptBytes -= other.length;
    }
  }

  async #get(path: string, range: string, signal?: AbortSignal): Promise<Response> {
    const response = await this.fetchFile(this.urlOf(path), {
      headers: { range },
      ...(signal && { signal }),
    });
    if (response.ok) return response;
    throw new ConnectError(
      `the web server answered ${response.status} for the file ${path} of the copy`,
      response.status === 404 ? Code.NotFound : Code.Unknown,
    );
  }
}

/** Reads the first bytes of an answer and cancels the rest, or reads all of a shorter answer. */
async function readUpTo(response: Response, end: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = response.body?.getReader();
  while (reader && length < end) {
    const { done, value } = await reader.read();
    if (done) break;
    const part = value.subarray(0, end - length);
    parts.push(part);
    length += part.length;
  }
  // A failure to cancel changes nothing about what was read.
  void reader?.cancel().catch(() => undefined);
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function complete(path: string, bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length === length) return bytes;
  throw new ConnectError(
    `the web server has sent ${bytes.length} bytes of ${path} instead of ${length}: the copy is damaged, or is ` +
      'being replaced. Reload the page',
    Code.DataLoss,
  );
}

/** Ranges that ascend; ranges that are close to each other are joined. */
export function joinedRanges(ranges: readonly ByteRange[]): ByteRange[] {
  const joined: ByteRange[] = [];
  for (const { start, end } of ranges) {
    const last = joined.at(-1);
    if (last && start - last.end <= GAP_BYTES) last.end = Math.max(last.end, end);
    else joined.push({ start, end });
  }
  return joined;
}

/** Indexes of the pages that may have steps of a range; both ends are included. */
export function pagesOver({ firstSteps }: PageList, from: number, to: number): number[] {
  const first = Math.max(0, countUpTo(firstSteps, from) - 1);
  const end = countUpTo(firstSteps, to);
  return Array.from({ length: Math.max(0, end - first) }, (_, at) => first + at);
}

/** Number of steps up to a step, which is included. */
function countUpTo(steps: readonly bigint[], step: number): number {
  let low = 0;
  let high = steps.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((steps[middle] as bigint) <= step) low = middle + 1;
    else high = middle;
  }
  return low;
}
