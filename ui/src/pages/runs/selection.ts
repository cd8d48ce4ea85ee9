/**
 * The runs with a checked box: some ids, or all that a search found but some ids, which are read in
 * pages when needed.
 */
import { findRuns } from '../../api/runs.ts';
import { sortFor } from './requests.ts';

/** A search at the time of its first page: runs that are created later are no part of it. */
interface FoundIds {
  query: string;
  sort: readonly string[];
  ids: string[];
  /** Start of the next page; empty: there is no next page. */
  cursor: string;
  count: number;
}

/** The number of runs that one call changes. */
const PAGE_IDS = 5_000;

export class Selection {
  static readonly none = new Selection(new Set());

  private constructor(
    /** The selected runs, or the runs of `found` that are not selected. */
    private readonly named: ReadonlySet<string>,
    readonly found?: FoundIds,
  ) {}

  static of(ids: readonly string[]): Selection {
    return new Selection(new Set(ids));
  }

  static async all(query: string, sort: readonly string[]): Promise<Selection> {
    return new Selection(new Set(), await readPage(query, sort, ''));
  }

  /** The query that finds these runs and no others, if there is one. */
  get query(): string | undefined {
    return this.named.size === 0 ? this.found?.query : undefined;
  }

  /** The selected runs, unless they are the result of a search. */
  get ids(): string[] {
    return this.found ? [] : [...this.named];
  }

  get count(): number {
    return this.found ? this.found.count - this.named.size : this.named.size;
  }

  has(id: string): boolean {
    return this.named.has(id) !== (this.found !== undefined);
  }

  with(ids: readonly string[], isSelected: boolean): Selection {
    const named = new Set(this.named);
    for (const id of ids) {
      if (isSelected === (this.found === undefined)) named.add(id);
      else named.delete(id);
    }
    return new Selection(named, this.found);
  }

  /** All ids, a page at a time; the ids of a search in its order. */
  async *pages(): AsyncGenerator<string[]> {
    if (!this.found) return yield [...this.named];
    let { query, sort, ids, cursor } = this.found;
    for (;;) {
      yield ids.filter(id => this.has(id));
      if (cursor === '') return;
      ({ ids, cursor } = await readPage(query, sort, cursor));
    }
  }

  async first(limit: number): Promise<string[]> {
    const first: string[] = [];
    for await (const ids of this.pages()) {
      first.push(...ids);
      if (first.length >= limit) break;
    }
    return first.slice(0, limit);
  }
}

async function readPage(query: string, sort: readonly string[], cursor: string): Promise<FoundIds> {
  const page = { idsOnly: true, limit: PAGE_IDS, cursor, count: cursor === '' };
  const { ids, count, nextCursor } = await findRuns(query, { sort: sortFor(sort), ...page });
  return { query, sort, ids, cursor: nextCursor, count };
}
