/**
 * The rows of the runs table as one list: all runs, or the heading of each group and the runs of
 * open groups.
 */
import type { AggregateValue, Group } from '../../gen/matyan/search/v1/search_pb.ts';
import { RowPages } from '../../parts/row_pages.svelte.ts';
import type { RunRow, TableSearch } from './search.ts';

type Row = RunRow | undefined;
type Load = (
  section: Section,
  first: number,
  end: number,
  signal: AbortSignal,
) => Promise<readonly Row[]>;

/** All runs of a search, or the runs of a group. */
export class Section {
  readonly pages: RowPages<Row>;
  count = $state(0);
  group = $state.raw<Group>();
  aggregates = $state.raw<ReadonlyMap<string, AggregateValue>>(new Map());

  constructor(
    readonly search: TableSearch,
    load: Load,
    onerror: (error: unknown, retry: () => void) => void,
  ) {
    this.pages = new RowPages((first, end, signal) => load(this, first, end, signal), onerror);
  }

  /** Finds the runs of the group; empty: all runs. */
  get token(): string {
    return this.group?.token ?? '';
  }

  /** Takes over a newer heading. Runs are reread if their number has changed. */
  update(group: Group, columns: readonly string[]): void {
    const count = Number(group.runCount);
    if (count !== this.count) this.pages.expire();
    this.group = group;
    this.count = count;
    this.aggregates = new Map(group.aggregates.map((one, at) => [columns[at] ?? '', one]));
  }
}

/** A row of the list: the heading of a group, which has the index -1, or a run. */
export interface Place {
  section: Section;
  index: number;
}

function headingKey({ token }: Section): string {
  return `group ${token}`;
}

export class TableRows {
  readonly count: number;
  readonly #starts: number[] = [];

  constructor(
    readonly sections: readonly Section[],
    readonly open: ReadonlySet<string>,
  ) {
    let count = 0;
    for (const section of sections) {
      this.#starts.push(count);
      if (section.group) count += 1;
      if (this.isOpen(section)) count += section.count;
    }
    this.count = count;
  }

  isOpen(section: Section): boolean {
    return !section.group || this.open.has(section.token);
  }

  at(row: number): Place | undefined {
    let low = 0;
    let high = this.sections.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((this.#starts[middle] as number) <= row) low = middle;
      else high = middle;
    }
    const section = this.sections[low];
    if (!section || row < 0 || row >= this.count) return undefined;
    return { section, index: row - (this.#starts[low] as number) - (section.group ? 1 : 0) };
  }

  /** The run of a row; undefined for headings, and while it is loaded. */
  run(row: number): RunRow | undefined {
    const place = this.at(row);
    return place && place.index >= 0 ? place.section.pages.row(place.index) : undefined;
  }

  /** Identifies what a row shows; undefined while its run is being loaded. */
  keyAt(row: number): string | undefined {
    const place = this.at(row);
    return place?.index === -1 ? headingKey(place.section) : this.run(row)?.run.runId;
  }

  /** The row of a heading or of a loaded run; -1 if there is none. */
  rowOf(key: string): number {
    for (const [at, section] of this.sections.entries()) {
      const start = this.#starts[at] as number;
      if (section.group && headingKey(section) === key) return start;
      const index = this.isOpen(section)
        ? section.pages.indexOf(row => row?.run.runId === key)
        : -1;
      if (index >= 0 && index < section.count) return start + (section.group ? 1 : 0) + index;
    }
    return -1;
  }

  /** Loads the runs in view, and aborts the reads of runs that have left the view. */
  show(first: number, end: number): void {
    for (const [at, section] of this.sections.entries()) {
      const start = (this.#starts[at] as number) + (section.group ? 1 : 0);
      const last = this.isOpen(section) ? Math.min(end - start, section.count) : 0;
      section.pages.show(Math.max(0, first - start), last, section.count);
    }
  }
}
