/**
 * Rows of a long list by random access: pages around the view are loaded, and distant pages are
 * forgotten.
 */
import { isAbort } from '../api/errors.ts';

interface LoadedPage<T> {
  rows: T[] | undefined;
  control: AbortController;
  isReading: boolean;
  /** The page is reread when it is shown next; its rows stay until then. */
  isStale: boolean;
  count: number;
}

export const PAGE_ROWS = 64;
/** Pages to keep: a reader who scrolls back some screens does not wait. */
const MAX_PAGES = 40;

export class RowPages<T> {
  #pages = new Map<number, LoadedPage<T>>();
  #version = $state(0);

  constructor(
    readonly load: (first: number, end: number, signal: AbortSignal) => Promise<readonly T[]>,
    readonly onerror: (error: unknown, retry: () => void) => void,
  ) {}

  row(index: number): T | undefined {
    void this.#version;
    return this.#pages.get(Math.floor(index / PAGE_ROWS))?.rows?.[index % PAGE_ROWS];
  }

  /** The index of a loaded row; -1: no such row is loaded. */
  indexOf(isWanted: (row: T) => boolean): number {
    void this.#version;
    for (const [number, { rows = [] }] of this.#pages) {
      const at = rows.findIndex(isWanted);
      if (at >= 0) return number * PAGE_ROWS + at;
    }
    return -1;
  }

  /** Loads the pages of the rows in view, and aborts the reads of pages that left the view. */
  show(first: number, end: number, count: number): void {
    const from = Math.floor(first / PAGE_ROWS);
    const to = Math.floor((end - 1) / PAGE_ROWS);
    for (const [number, page] of this.#pages) {
      if ((number < from || number > to || end <= first) && page.isReading)
        this.#drop(number, page);
    }
    if (end <= first) return;
    for (let number = from; number <= to; number++) {
      const known = this.#pages.get(number);
      if (known && !known.isStale) {
        // The map is in order of last use.
        this.#pages.delete(number);
        this.#pages.set(number, known);
      } else void this.#read(number, count);
    }
    for (const [number, page] of this.#pages) {
      if (this.#pages.size <= MAX_PAGES) break;
      this.#drop(number, page);
    }
  }

  update(replace: (row: T) => T): void {
    for (const page of this.#pages.values()) page.rows = page.rows?.map(replace);
    this.#version += 1;
  }

  /**
   * Replaces a row, or adds it at the end. A page that is being read may miss the row, so the read
   * restarts.
   */
  set(index: number, row: T): void {
    const number = Math.floor(index / PAGE_ROWS);
    const page = this.#pages.get(number);
    if (page?.isReading) {
      this.#drop(number, page);
      void this.#read(number, page.count);
    } else if (page?.rows) {
      page.rows[index % PAGE_ROWS] = row;
      this.#version += 1;
    }
  }

  /** Replaces the first page, and makes the other pages reread when they are shown next. */
  begin(rows: readonly T[], count: number): void {
    for (const [number, page] of this.#pages) {
      if (page.isReading) this.#drop(number, page);
    }
    this.expire();
    const control = new AbortController();
    this.#pages.set(0, { rows: [...rows], control, isReading: false, isStale: false, count });
    this.#version += 1;
  }

  /** Makes all pages reread when they are shown next. */
  expire(): void {
    for (const page of this.#pages.values()) page.isStale = !page.isReading;
  }

  clear(): void {
    for (const [number, page] of this.#pages) this.#drop(number, page);
    this.#version += 1;
  }

  async #read(number: number, count: number): Promise<void> {
    const rows = this.#pages.get(number)?.rows;
    const control = new AbortController();
    const page: LoadedPage<T> = { rows, control, isReading: true, isStale: false, count };
    this.#pages.delete(number);
    this.#pages.set(number, page);
    const first = number * PAGE_ROWS;
    const end = Math.min((number + 1) * PAGE_ROWS, count);
    try {
      const rows = await this.load(first, end, control.signal);
      if (this.#pages.get(number) !== page) return;
      page.rows = [...rows];
      page.isReading = false;
      this.#version += 1;
    } catch (error) {
      if (this.#pages.get(number) === page) this.#pages.delete(number);
      if (!isAbort(error)) this.onerror(error, () => void this.#read(number, count));
    }
  }

  #drop(number: number, page: LoadedPage<T>): void {
    page.control.abort();
    this.#pages.delete(number);
  }
}
