/** Reads parts of the files of a published copy, by HTTP ranges if the web server has them. */
import { Code, ConnectError } from '@connectrpc/connect';

import { dataUrl } from '../api/published.ts';
import { rootPath } from '../api/transport.ts';
import type { PageList } from '../gen/matyan/published/v1/published_pb.ts';

export interface ByteRange {
  start: number;
  end: number;
}

/** Pages that are closer are read together: a request of its own takes longer. */
const GAP_BYTES = 64 * 1024;
/** Of whole files, from a web server without ranges. */
const KEPT_BYTES = 256 * 1024 * 1024;

const PARTIAL = 206;

export class CopyFiles {
  /** Whether the web server answers with ranges: unknown before its first answer. */
  #hasRanges: boolean | undefined;
  readonly #whole = new Map<string, Promise<Uint8Array>>();
  readonly #offsets = new WeakMap<PageList, Float64Array>();
  #keptBytes = 0;

  constructor(
    readonly fetchFile: typeof fetch = (input, init) => globalThis.fetch(input, init),
    readonly urlOf = (path: string): string => dataUrl(rootPath, path),
  ) {}

  /** A whole file, which is not empty. */
  async read(path: string, signal?: AbortSignal): Promise<Uint8Array> {
    const response = await this.#get(path, 'bytes=0-', signal);
    this.#hasRanges ??= response.status === PARTIAL;
    return new Uint8Array(await response.arrayBuffer());
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
    const bytes = new Uint8Array(await response.arrayBuffer());
    const part = response.status === PARTIAL ? bytes : bytes.subarray(start, end);
    if (part.length !== end - start)
      throw new ConnectError(
        `the web server has sent ${part.length} bytes of ${path} instead of ${end - start}: the copy is damaged, or is ` +
          'being replaced. Reload the page',
        Code.DataLoss,
      );
    return part;
  }

  /** Shared by all readers, so none of them aborts it. */
  #wholeFile(path: string): Promise<Uint8Array> {
    let reading = this.#whole.get(path);
    if (!reading) {
      reading = this.read(path).then(bytes => this.#keep(path, bytes));
      reading.catch(() => this.#whole.delete(path));
      this.#whole.set(path, reading);
    }
    return reading;
  }

  #keep(path: string, bytes: Uint8Array): Uint8Array {
    this.#keptBytes += bytes.length;
    for (const [other, reading] of this.#whole) {
      if (this.#keptBytes <= KEPT_BYTES) break;
      if (other === path) continue;
      this.#whole.delete(other);
      void reading.then(({ length }) => (this.#keptBytes -= length));
    }
    return bytes;
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

/** Ranges that ascend, with those that are close to each other as one. */
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

/** Number of steps that are not after a step. */
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
