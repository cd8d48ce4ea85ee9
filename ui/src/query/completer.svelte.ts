/** The list under a query field: completions at the cursor, or saved and recent queries while the field is empty. */
import { isAbort } from '../api/errors.ts';
import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import { SearchKind } from '../gen/matyan/search/v1/search_pb.ts';
import { complete, type Completion } from './proposals.ts';
import { projectFor } from './project.ts';
import { recent } from './recent.svelte.ts';
import { readSaved, removeSaved, saveQuery, type SavedQuery } from './saved.ts';

export interface Option {
  text: string;
  detail: string;
  /** The part of the query that it replaces, and where the cursor is afterwards. */
  from: number;
  to: number;
  isOpen: boolean;
}

/** What a search is for: its type, and its name in queries. */
const SUBJECTS: Partial<Record<SearchKind, [type: SeriesType, name: string]>> = {
  [SearchKind.IMAGES]: [SeriesType.IMAGES, 'images'],
  [SearchKind.AUDIOS]: [SeriesType.AUDIOS, 'audios'],
  [SearchKind.TEXTS]: [SeriesType.TEXTS, 'texts'],
  [SearchKind.DISTRIBUTIONS]: [SeriesType.DISTRIBUTIONS, 'distributions'],
  [SearchKind.FIGURES]: [SeriesType.FIGURES, 'figures'],
};

export class Completer {
  options = $state.raw<Option[]>([]);
  /** Index of the option that Enter takes; −1: none. */
  active = $state(-1);
  saved = $state.raw<readonly SavedQuery[]>([]);
  #turn = 0;
  #hasSaved = false;

  get isOpen(): boolean {
    return this.options.length > 0;
  }

  async update(text: string, caret: number, kind: SearchKind): Promise<void> {
    const turn = ++this.#turn;
    try {
      const [type, name] = SUBJECTS[kind] ?? [SeriesType.METRIC, 'metric'];
      const found = completions(await complete(text, caret, projectFor(type), name));
      const options = text.trim() === '' ? [...(await this.#queries(text)), ...found] : found;
      // The reader has typed on.
      if (turn !== this.#turn) return;
      [this.options, this.active] = [options, -1];
    } catch (error) {
      // Without names of the project the query can still be written; the search reports what is wrong with the server.
      if (turn === this.#turn && !isAbort(error)) this.close();
    }
  }

  close(): void {
    this.#turn += 1;
    [this.options, this.active] = [[], -1];
  }

  move(by: number): void {
    const count = this.options.length;
    this.active = this.active < 0 ? (by > 0 ? 0 : count - 1) : (this.active + by + count) % count;
  }

  async toggleSaved(text: string): Promise<void> {
    await this.readSaved();
    const known = this.saved.find(query => query.text === text);
    if (known) {
      await removeSaved(known.id);
      this.saved = this.saved.filter(query => query !== known);
    } else this.saved = [await saveQuery(text), ...this.saved];
  }

  async readSaved(): Promise<void> {
    if (this.#hasSaved) return;
    this.saved = await readSaved();
    this.#hasSaved = true;
  }

  async #queries(text: string): Promise<Option[]> {
    await this.readSaved();
    const own = this.saved.map(query => query.text);
    return [
      ...own.map(query => whole(query, 'saved', text.length)),
      ...recent.queries
        .filter(query => !own.includes(query))
        .map(query => whole(query, 'recent', text.length)),
    ];
  }
}

function whole(text: string, detail: string, to: number): Option {
  return { text, detail, from: 0, to, isOpen: false };
}

function completions(found: Completion | undefined): Option[] {
  if (!found) return [];
  const { from, to, proposals } = found;
  return proposals.map(({ text, detail, isOpen = false }) => ({ text, detail, from, to, isOpen }));
}
