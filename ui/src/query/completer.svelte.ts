/**
 * The list under a query field: completions at the cursor, or saved and recent queries while the
 * field is empty.
 */
import { completeQuery } from '../api/runs.ts';
import { readTexts, removeText, saveText, type SavedText } from '../api/texts.ts';
import type { SearchKind } from '../gen/matyan/search/v1/search_pb.ts';
import { continuations } from './conditions.ts';
import { recent } from './recent.svelte.ts';

export interface Option {
  text: string;
  detail: string;
  /** The part of the query that the option replaces, and the place of the cursor afterwards. */
  from: number;
  to: number;
  isOpen: boolean;
}

/** Pause in typing after which completions are read. */
const TYPING_MS = 60;

export class Completer {
  options = $state.raw<Option[]>([]);
  /** Index of the option that Enter takes; −1: none. */
  active = $state(-1);
  saved = $state.raw<readonly SavedText[]>([]);
  /** The last option was clicked, so continuations of a whole query are offered too. */
  isPicking = false;
  /** The list that is being read; there is one at a time. */
  #reading = new AbortController();
  #hasSaved = false;
  #proposedFor = '';

  get isOpen(): boolean {
    return this.options.length > 0;
  }

  /** Whether a name in the text is only the start of a proposal. */
  hasBegun(text: string): boolean {
    const isMore = ({ text: own, detail, from, to }: Option): boolean =>
      detail !== 'value' && from < to && own !== text.slice(from, to);
    return this.#proposedFor === text && this.options.every(isMore);
  }

  async update(text: string, caret: number, kind: SearchKind): Promise<void> {
    this.#reading.abort();
    this.#reading = new AbortController();
    const { signal } = this.#reading;
    try {
      await new Promise(resolve => setTimeout(resolve, TYPING_MS));
      signal.throwIfAborted();
      const found = await completions(text, caret, kind, signal);
      const isWhole = found.length === 0 && caret === text.length;
      const more = this.isPicking && isWhole ? continuations(text) : [];
      const next = more.map(word => ({ ...whole(` ${word} `, 'continues', caret), from: caret }));
      const options =
        text.trim() === '' ? [...(await this.#queries(text)), ...found] : [...found, ...next];
      if (!signal.aborted) {
        this.options = options;
        this.active = -1;
        this.#proposedFor = text;
      }
    } catch {
      // The query can still be written; the search reports the failure of the server.
      if (!signal.aborted) this.close();
    }
  }

  close(): void {
    this.#reading.abort();
    this.options = [];
    this.active = -1;
  }

  move(by: number): void {
    const count = this.options.length;
    this.active = this.active < 0 ? (by > 0 ? 0 : count - 1) : (this.active + by + count) % count;
  }

  async toggleSaved(text: string): Promise<void> {
    await this.readSaved();
    const known = this.saved.find(query => query.text === text);
    if (known) {
      await removeText(known.id);
      this.saved = this.saved.filter(query => query !== known);
    } else this.saved = [await saveText('query', text), ...this.saved];
  }

  async readSaved(): Promise<void> {
    if (this.#hasSaved) return;
    this.saved = await readTexts('query');
    this.#hasSaved = true;
  }

  async #queries(text: string): Promise<Option[]> {
    await this.readSaved();
    const own = this.saved.map(query => query.text);
    const others = recent.queries.filter(query => !own.includes(query));
    const options = (queries: string[], detail: string): Option[] =>
      queries.map(query => whole(query, detail, text.length));
    return [...options(own, 'saved'), ...options(others, 'recent')];
  }
}

function whole(text: string, detail: string, to: number): Option {
  return { text, detail, from: 0, to, isOpen: false };
}

/** The server counts characters, and the browser units of UTF-16. */
async function completions(text: string, caret: number, kind: SearchKind, signal: AbortSignal) {
  const cursor = [...text.slice(0, caret)].length;
  const { start, end, completions } = await completeQuery(kind, text, cursor, signal);
  const [from = 0, to = 0] = [start, end].map(count => [...text].slice(0, count).join('').length);
  return completions.map(({ text, detail, isOpen }) => ({ text, detail, from, to, isOpen }));
}
