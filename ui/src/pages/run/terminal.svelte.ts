/**
 * The terminal of a run: lines around the view by random access, newer lines as they come, and a
 * search in pieces.
 */
import { readLines, type LogRange } from '../../api/logs.ts';
import { Urgency } from '../../api/read_queue.ts';
import type { Line } from '../../gen/matyan/logs/v1/logs_pb.ts';
import { ansiSpans, ansiText, type AnsiSpan } from '../../format/ansi.ts';
import { RowPages } from '../../parts/row_pages.svelte.ts';
import { toaster } from '../../state/toasts.svelte.ts';

/** The browser searches this number of lines at a time, and keeps the lines of the newest piece. */
const PIECE_LINES = 20_000;
/** After a longer pause it is cheaper to read all lines in view. */
const MAX_TAIL = 2_000;
/** A longer line is cut: it would block the page while it is drawn. */
const MAX_LINE_CHARS = 5_000;

interface FoundLines {
  /** First line that was searched. */
  first: number;
  steps: number[];
}

export class TerminalLog {
  /** Number of lines; their steps are their numbers. Undefined before the first answer. */
  count = $state<number>();
  readonly pages: RowPages<AnsiSpan[]>;
  /**
   * Text of the newest lines, in lower case, by step. Undefined: they are read for the next search.
   */
  #newest: Map<number, string> | undefined;

  constructor(readonly runId: string) {
    this.pages = new RowPages(
      (first, end, signal) => this.#read(first, end, signal),
      toaster.error,
    );
  }

  async update(signal: AbortSignal): Promise<void> {
    const known = this.count ?? 0;
    // The last line may have grown, as a progress bar does.
    const range = known === 0 ? { tail: 1 } : { start: known - 1, stop: known - 1 + MAX_TAIL };
    const { lines, lastStep } = await readLines(this.runId, range, Urgency.Refresh, signal);
    if (known > 0 && lastStep + 1 > known + MAX_TAIL - 1) {
      this.pages.clear();
      this.#newest = undefined;
    } else for (const { step, text } of lines) this.pages.set(Number(step), spans(text));
    for (const line of lines) this.#newest?.set(...searchable(line));
    if ((this.#newest?.size ?? 0) > 2 * PIECE_LINES) this.#newest = undefined;
    this.count = Math.max(known, lastStep + 1);
  }

  /** Finds steps of lines that contain a text, in any case, among the newest lines. */
  async search(text: string, signal: AbortSignal): Promise<FoundLines> {
    this.#newest ??= await this.#readTexts({ tail: PIECE_LINES }, signal);
    const [first = 0] = this.#newest.keys();
    return { first, steps: matching(this.#newest, text) };
  }

  /** Searches the piece before a step. */
  async searchBefore(stop: number, text: string, signal: AbortSignal): Promise<FoundLines> {
    const first = Math.max(0, stop - PIECE_LINES);
    return { first, steps: matching(await this.#readTexts({ start: first, stop }, signal), text) };
  }

  async #readTexts(range: LogRange, signal: AbortSignal): Promise<Map<number, string>> {
    const { lines } = await readLines(this.runId, range, Urgency.Visible, signal);
    signal.throwIfAborted();
    return new Map(lines.map(searchable));
  }

  async #read(first: number, end: number, signal: AbortSignal): Promise<AnsiSpan[][]> {
    const { lines } = await readLines(
      this.runId,
      { start: first, stop: end },
      Urgency.Visible,
      signal,
    );
    const rows: AnsiSpan[][] = [];
    for (const { step, text } of lines) rows[Number(step) - first] = spans(text);
    // A line that was never logged is empty.
    return Array.from({ length: end - first }, (_, at) => rows[at] ?? []);
  }
}

function searchable({ step, text }: Line): [step: number, text: string] {
  return [Number(step), ansiText(text).toLowerCase()];
}

function matching(lines: ReadonlyMap<number, string>, text: string): number[] {
  const wanted = text.toLowerCase();
  return [...lines].filter(([, line]) => line.includes(wanted)).map(([step]) => step);
}

function spans(text: string): AnsiSpan[] {
  return ansiSpans(text.length > MAX_LINE_CHARS ? `${text.slice(0, MAX_LINE_CHARS)}…` : text);
}
