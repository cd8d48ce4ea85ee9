/** The runs with a checked box: some ids, or all that a search found but some ids, which are read in pages when needed. */
import { findRuns } from '../../api/runs.ts';
import { sortFor } from './requests.ts';

/** A search at the time of its first page: runs that are created later are no part of it. */
interface FoundIds {
  query: string;
  sort: readonly string[];
  ids: string[];
  /** Where the next page begins; empty: nowhere. */
  cursor: string;
  count: number;
}

/** As many as one call changes. */
const PAGE_IDS = 5_000;

export class Selection {
  static readonly none = new Selection(new Set());

  private constructor(
    /** Those that are selected, or those of `found` that are not. */
    private readonly named: ReadonlySet<string>,
    readonly found?: FoundIds,
  ) {}

  static async all(query: string, sort: readonly string[]): Promise<Selection> {
    return new Selection(new Set(), await readPage(query, sort, ''));
  }

  /** The query that finds these runs and no others, if one does. */
  get query(): string | undefined {
    return this.named.size === 0 ? this.found?.query : undefined;
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

  /** All ids, a page at a time; those of a search in its order. */
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
