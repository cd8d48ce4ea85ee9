/**
 * The runs table: the runs of a search, by position in the server's table, and the rows that stay
 * on top.
 */
import { decodeMap } from '../../api/cbor.ts';
import { isAbort } from '../../api/errors.ts';
import { Urgency } from '../../api/read_queue.ts';
import { findGroups, findRuns, readRuns, sampleRuns } from '../../api/runs.ts';
import type { RunChange } from '../../gen/matyan/runs/v1/runs_pb.ts';
import type { GroupsResponse, Warning } from '../../gen/matyan/search/v1/search_pb.ts';
import { PAGE_ROWS } from '../../parts/row_pages.svelte.ts';
import { goals } from '../../state/goals.ts';
import { toaster } from '../../state/toasts.svelte.ts';
import { columnText, usualColumns, type DataColumn } from './columns.ts';
import { aggregated, groupsFor, partsFor, sortFor, valuesFor } from './requests.ts';
import { listKey, rowOf, type RunRow, type TableSearch } from './search.ts';
import { Section, TableRows } from './sections.svelte.ts';
import { Selection } from './selection.ts';

/** The number of groups that the server sends. */
const GROUPS_AT_A_TIME = 1_000;
/** Least time between two reads of the values of active runs. */
const REFRESH_MS = 1_000;

export class RunsTable {
  sections = $state.raw<readonly Section[]>([]);
  count = $state(0);
  groupCount = $state(0);
  columns = $state.raw<readonly DataColumn[]>([]);
  warnings = $state.raw<readonly Warning[]>([]);
  failure = $state.raw<unknown>();
  /** A search runs; the rows of the previous search are still shown. */
  isSearching = $state(true);
  newRuns = $state(0);
  /**
   * Texts of the columns that had different values when the search ran; none: the search did not
   * compare values.
   */
  differing = $state.raw<ReadonlySet<string>>(new Set());
  /** Rows that stay on top in every search. Deleted runs are undefined. */
  pinned = $state.raw<ReadonlyMap<string, RunRow | undefined>>(new Map());

  #wanted: TableSearch = { query: '', sort: [], columns: [], by: [], differ: false };
  #signal: AbortSignal | undefined;
  /** The columns of a URL without any. */
  #usual: { query: string; columns: readonly DataColumn[] } | undefined;
  /** Start of the groups that were not read; empty: all groups were read. */
  #nextGroups = '';
  #view: [rows: TableRows, first: number, end: number] = [new TableRows([], new Set()), 0, 0];
  #changed = new Set<string>();
  #isCountStale = false;
  #isStopped = false;
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;

  async search(wanted: TableSearch, signal: AbortSignal): Promise<void> {
    this.isSearching = true;
    try {
      const columns =
        wanted.columns.length > 0 ? wanted.columns : await this.#chooseColumns(wanted, signal);
      // The rows of the same list stay until newer rows arrive.
      const known = listKey(wanted) === listKey(this.#wanted) ? this.sections : [];
      const found = await this.#find(wanted, columns, known, signal);
      for (const section of this.sections) {
        if (!found.includes(section)) section.pages.clear();
      }
      this.#wanted = wanted;
      this.#signal = signal;
      this.sections = found;
      this.failure = undefined;
    } catch (error) {
      if (isAbort(error)) return;
      this.failure = error;
    }
    this.isSearching = false;
  }

  async #find(
    wanted: TableSearch,
    columns: readonly DataColumn[],
    known: readonly Section[],
    signal: AbortSignal,
  ): Promise<Section[]> {
    const differing = new Set(
      wanted.differ ? await differingIn(wanted.query, columns, signal) : [],
    );
    if (wanted.by.length > 0) {
      const { sections, nextCursor, warnings } = await this.#readGroups(
        wanted,
        columns,
        known,
        signal,
      );
      this.#begin(columns, warnings, differing);
      for (const { pages } of sections) pages.expire();
      this.#nextGroups = nextCursor;
      return sections;
    }
    const request = {
      sort: sortFor(wanted.sort),
      limit: PAGE_ROWS,
      count: true,
      parts: partsFor(columns),
    };
    const { runs, count, warnings } = await findRuns(wanted.query, request, signal);
    this.#begin(columns, warnings, differing);
    const section = known[0] ?? this.#newSection(wanted);
    section.pages.begin(runs.map(rowOf), count);
    section.count = count;
    this.count = count;
    this.#nextGroups = '';
    return [section];
  }

  #begin(
    columns: readonly DataColumn[],
    warnings: readonly Warning[],
    differing: Set<string>,
  ): void {
    this.columns = columns;
    this.warnings = warnings;
    this.differing = differing;
    this.newRuns = 0;
  }

  async #readGroups(
    wanted: TableSearch,
    columns: readonly DataColumn[],
    known: readonly Section[],
    signal: AbortSignal | undefined,
    cursor = '',
  ): Promise<GroupsResponse & { sections: Section[] }> {
    const [sort = ''] = wanted.sort;
    const texts = aggregated(columns, sort);
    const request = { ...groupsFor(wanted.by, texts, sort), limit: GROUPS_AT_A_TIME, cursor };
    const found = await findGroups(wanted.query, request, signal);
    this.count = Number(found.runCount);
    this.groupCount = Number(found.groupCount);
    const byToken = new Map(known.map(section => [section.token, section]));
    const sections = found.groups.map(group => {
      const section = byToken.get(group.token) ?? this.#newSection(wanted);
      section.update(group, texts);
      return section;
    });
    return { ...found, sections };
  }

  #newSection(wanted: TableSearch): Section {
    return new Section(wanted, (...page) => this.#readPage(...page), toaster.error);
  }

  async #readPage(
    section: Section,
    first: number,
    end: number,
    signal: AbortSignal,
  ): Promise<RunRow[]> {
    const { query, sort } = section.search;
    const page = { group: section.token, position: BigInt(first), limit: end - first, count: true };
    const request = { ...page, sort: sortFor(sort), parts: partsFor(this.columns) };
    const { runs, count } = await findRuns(query, request, signal);
    if (count !== section.count) {
      // Runs were added or removed, so others have moved.
      this.count = this.count + count - section.count;
      this.newRuns = 0;
      section.count = count;
      section.pages.expire();
      this.#scheduleRefresh();
    }
    return runs.map(rowOf);
  }

  show(rows: TableRows, first: number, end: number): void {
    this.#view = [rows, first, end];
    rows.show(first, end);
    if (this.#changed.size > 0) this.#scheduleRefresh();
    if (end >= rows.count && this.#nextGroups !== '') void this.#addGroups(this.#nextGroups);
  }

  async #addGroups(cursor: string): Promise<void> {
    this.#nextGroups = '';
    const wanted = this.#wanted;
    try {
      const more = await this.#readGroups(wanted, this.columns, [], this.#signal, cursor);
      if (wanted !== this.#wanted) return;
      this.sections = [...this.sections, ...more.sections];
      this.#nextGroups = more.nextCursor;
    } catch (error) {
      toaster.error(error, () => void this.#addGroups(cursor));
    }
  }

  selectAll(): Promise<Selection> {
    return Selection.all(this.#wanted.query, this.#wanted.sort);
  }

  /**
   * Ids of rows as they are shown. Fails if a row has not been read, and runs came or left since
   * the others were read.
   */
  async ids(section: Section, first: number, limit: number): Promise<string[]> {
    const shown = Array.from(
      { length: limit },
      (_, at) => section.pages.row(first + at)?.run.runId,
    );
    if (!shown.includes(undefined)) return shown as string[];
    const { query, sort } = section.search;
    const part = { group: section.token, position: BigInt(first), limit, count: true };
    const request = { sort: sortFor(sort), idsOnly: true, ...part };
    const { ids, count } = await findRuns(query, request, this.#signal);
    const isSame = shown.every((id, at) => id === undefined || id === ids[at]);
    if (isSame && count === section.count) return ids;
    section.pages.expire();
    this.#scheduleRefresh();
    throw new Error('The rows have moved, because runs came or left. Select them again.');
  }

  async pin(ids: readonly string[], signal?: AbortSignal): Promise<void> {
    try {
      const rows = await this.read(ids, Urgency.Visible, signal);
      this.pinned = new Map(ids.map((id, at) => [id, rows[at]]));
    } catch (error) {
      toaster.error(error, () => void this.pin(ids));
    }
  }

  /** Takes over the changes of the stream, and rereads the values of changed runs in view. */
  onchanges(changes: readonly RunChange[]): void {
    const byId = new Map(changes.map(change => [change.runId, change]));
    const rest = new Set(byId.keys());
    this.#update(row => {
      const change = byId.get(row.run.runId)?.change;
      rest.delete(row.run.runId);
      const props = change?.case === 'run' ? change.value.props : undefined;
      return props ? { ...row, run: { ...row.run, props } } : row;
    });
    for (const { runId, change } of changes) {
      if (!rest.has(runId) || this.pinned.has(runId)) this.#changed.add(runId);
      // A run that is in no row may be new.
      if (rest.has(runId) || change.case === 'left') this.#isCountStale = true;
    }
    this.#scheduleRefresh();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#refreshTimer);
    this.#view = [new TableRows([], new Set()), 0, 0];
    for (const { pages } of this.sections) pages.clear();
  }

  #scheduleRefresh(ms = REFRESH_MS): void {
    if (!this.#isStopped) this.#refreshTimer ??= setTimeout(() => void this.#refresh(), ms);
  }

  async #refresh(): Promise<void> {
    this.#refreshTimer = undefined;
    const [rows, first, end] = this.#view;
    const shown = Array.from(
      { length: end - first },
      (_, at) => rows.run(first + at)?.run.runId ?? '',
    );
    const ids = [...new Set([...shown, ...this.pinned.keys()])].filter(id =>
      this.#changed.delete(id),
    );
    const isCountStale = this.#isCountStale;
    this.#isCountStale = false;
    try {
      const read = await this.read(ids, Urgency.Refresh);
      const newer = new Map(read.flatMap(row => (row ? [[row.run.runId, row]] : [])));
      this.#update(row => newer.get(row.run.runId) ?? row);
      this.pinned = new Map([...this.pinned].map(([id, row]) => [id, newer.get(id) ?? row]));
      if (isCountStale || this.#wanted.by.length > 0) await this.#recount();
    } catch {
      // The connection is lost, which the foot of the page shows, or a new search has started.
      for (const id of ids) this.#changed.add(id);
      this.#isCountStale ||= isCountStale;
      this.#scheduleRefresh(5 * REFRESH_MS);
    }
    this.#view[0].show(this.#view[1], this.#view[2]);
  }

  /**
   * Compares the number of rows with the number of matches. Rows do not move before the reader
   * wants it.
   */
  async #recount(): Promise<void> {
    const wanted = this.#wanted;
    const sections = this.sections;
    const isGrouped = wanted.by.length > 0;
    if (isGrouped) await this.#readGroups(wanted, this.columns, sections, this.#signal);
    const request = { limit: 1, idsOnly: true, count: true };
    const { count } = isGrouped
      ? this
      : await findRuns(wanted.query, request, this.#signal, Urgency.Refresh);
    if (wanted !== this.#wanted) return;
    const added = count - sections.reduce((sum, { count }) => sum + count, 0);
    this.newRuns = this.#nextGroups === '' ? Math.max(0, added) : 0;
    if (added < 0) for (const { pages } of sections) pages.expire();
  }

  #update(change: (row: RunRow) => RunRow): void {
    for (const { pages } of this.sections) pages.update(row => row && change(row));
  }

  /** Reads runs by id; deleted runs are undefined. */
  async read(
    ids: readonly string[],
    urgency: Urgency,
    signal?: AbortSignal,
  ): Promise<(RunRow | undefined)[]> {
    const runs = await readRuns([...ids], partsFor(this.columns), urgency, signal);
    return ids.map(id => {
      const run = runs.get(id);
      return run && rowOf(run);
    });
  }

  async #chooseColumns(
    { query }: TableSearch,
    signal: AbortSignal,
  ): Promise<readonly DataColumn[]> {
    if (this.#usual?.query !== query) {
      const runs = await sampleRuns(query, signal);
      // The results of the project come first.
      await goals.settled();
      const columns = usualColumns(
        runs.map(({ params, series }) => ({ params: decodeMap(params), series })),
      );
      this.#usual = { query, columns };
    }
    return this.#usual.columns;
  }
}

/** Texts of columns with several values in all runs of a query. */
async function differingIn(
  query: string,
  columns: readonly DataColumn[],
  signal: AbortSignal,
): Promise<string[]> {
  const differs = async (column: DataColumn): Promise<string[]> => {
    const request = valuesFor(column);
    const found = request && (await findGroups(query, request, signal));
    // The server does not compare lists: their runs are one group without a value.
    const isUnknown =
      column.kind === 'param' && found?.groups[0]?.values[0]?.value.case === undefined;
    return !found || isUnknown || found.groupCount > 1n ? [columnText(column)] : [];
  };
  return (await Promise.all(columns.map(differs))).flat();
}
