/** The terminal of a run: lines around the view by random access, newer ones as they come, and a bounded search. */
import { readLines } from '../../api/logs.ts';
import { Urgency } from '../../api/read_queue.ts';
import { ansiSpans, ansiText, type AnsiSpan } from '../../format/ansi.ts';
import { RowPages } from '../../parts/row_pages.svelte.ts';
import { toaster } from '../../state/toasts.svelte.ts';

/** Lines are searched in the browser, so only the newest ones are read for it. */
export const SEARCHED_LINES = 20_000;
/** After a longer pause it is cheaper to read what is in view again. */
const MAX_TAIL = 2_000;
/** A longer line is cut: it would block the page while it is drawn. */
const MAX_LINE_CHARS = 5_000;

export class TerminalLog {
  /** Number of lines; their steps are their numbers. Undefined before the first answer. */
  count = $state<number>();
  readonly pages: RowPages<AnsiSpan[]>;
  /** Text of the searched lines, in lower case, by step. */
  #searched: Map<number, string> | undefined;

  constructor(readonly runId: string) {
    this.pages = new RowPages((first, end, signal) => this.#read(first, end, signal), toaster.error);
  }

  async update(signal: AbortSignal): Promise<void> {
    const known = this.count ?? 0;
    // The last line may have grown, as a progress bar does.
    const range = known === 0 ? { tail: 1 } : { start: known - 1, stop: known - 1 + MAX_TAIL };
    const { lines, lastStep } = await readLines(this.runId, range, Urgency.Refresh, signal);
    if (known > 0 && lastStep + 1 > known + MAX_TAIL - 1) this.pages.clear();
    else for (const { step, text } of lines) this.pages.set(Number(step), spans(text));
    if (this.#searched) for (const { step, text } of lines) this.#addSearched(Number(step), text);
    this.count = Math.max(known, lastStep + 1);
  }

  /** Finds steps of lines that contain a text, whatever its case, among the newest lines. */
  async search(text: string, signal: AbortSignal): Promise<number[]> {
    if (!this.#searched) {
      const { lines } = await readLines(this.runId, { tail: SEARCHED_LINES }, Urgency.Visible, signal);
      this.#searched = new Map();
      for (const { step, text } of lines) this.#addSearched(Number(step), text);
    }
    const wanted = text.toLowerCase();
    return [...this.#searched].filter(([, line]) => line.includes(wanted)).map(([step]) => step);
  }

  #addSearched(step: number, text: string): void {
    this.#searched?.set(step, ansiText(text).toLowerCase());
  }

  async #read(first: number, end: number, signal: AbortSignal): Promise<AnsiSpan[][]> {
    const { lines } = await readLines(this.runId, { start: first, stop: end }, Urgency.Visible, signal);
    const rows: AnsiSpan[][] = [];
    for (const { step, text } of lines) rows[Number(step) - first] = spans(text);
    // A line that was never logged is an empty one.
    return Array.from({ length: end - first }, (_, at) => rows[at] ?? []);
  }
}

function spans(text: string): AnsiSpan[] {
  return ansiSpans(text.length > MAX_LINE_CHARS ? `${text.slice(0, MAX_LINE_CHARS)}…` : text);
}
