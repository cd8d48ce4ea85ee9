/** The rows of the runs table: the ids that a search found, and the runs in view. */
import { decodeMap, type CborValue } from '../../api/cbor.ts';
import { isAbort } from '../../api/errors.ts';
import { Urgency } from '../../api/read_queue.ts';
import { findRuns, readRuns } from '../../api/runs.ts';
import { SeriesType } from '../../gen/matyan/common/v1/common_pb.ts';
import type { Run } from '../../gen/matyan/runs/v1/run_pb.ts';
import type { RunChange } from '../../gen/matyan/runs/v1/runs_pb.ts';
import type { Warning } from '../../gen/matyan/search/v1/search_pb.ts';
import { RowPages } from '../../parts/row_pages.svelte.ts';
import { toaster } from '../../state/toasts.svelte.ts';
import { exactValue } from '../../format/value.ts';
import {
  columnText,
  defaultColumns,
  partsFor,
  PROP_COLUMNS,
  sortFor,
  valueIn,
  type DataColumn,
} from './columns.ts';

export interface RunRow {
  run: Run;
  params: { [key: string]: CborValue };
}

export interface TableSearch {
  query: string;
  sort: string;
  /** Columns from the URL; empty: chosen from the newest runs. */
  columns: DataColumn[];
}

/** Runs whose params and metrics decide the columns. */
const SAMPLE_RUNS = 12;
/** Some screens of rows. */
const MAX_RECENT = 1_000;
/** Values of active runs are read again at most this often. */
const REFRESH_MS = 1_000;

export class RunsTable {
  ids = $state.raw<readonly string[]>([]);
  columns = $state.raw<readonly DataColumn[]>([]);
  warnings = $state.raw<readonly Warning[]>([]);
  failure = $state.raw<unknown>();
  /** A search runs; the rows of the last one are still shown. */
  isSearching = $state(true);
  /** Runs that were created since the search. */
  newRuns = $state(0);
  pages = new RowPages<RunRow | undefined>(
    (first, end, signal) => this.read(this.ids.slice(first, end), Urgency.Visible, signal),
    (error, retry) => toaster.error(error, 'SearchService.Runs', retry),
  );

  /** Columns that have different values in the rows that were read since the search. */
  differing = $state.raw<ReadonlySet<string>>(new Set());
  /** Rows that stay on top, whatever the search finds. */
  pinned = $state.raw<ReadonlyMap<string, RunRow>>(new Map());

  /** The first value of each column since the search. */
  #first = new Map<string, string>();
  /** Rows by id as they were last shown, until newer ones arrive. */
  #recent = new Map<string, RunRow>();
  #known = new Map<string, number>();
  #view: [first: number, end: number] = [0, 0];
  #changed = new Set<string>();
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;

  async search({ query, sort, columns }: TableSearch, signal: AbortSignal): Promise<void> {
    this.isSearching = true;
    try {
      const { ids, warnings } = await findRuns(query, sortFor(sort), signal);
      const chosen = columns.length > 0 ? columns : await this.#chooseColumns(ids, signal);
      this.pages.clear();
      this.#first.clear();
      this.differing = new Set();
      this.#known = new Map(ids.map((id, at) => [id, at]));
      [this.ids, this.columns, this.warnings, this.failure, this.newRuns] = [
        ids,
        chosen,
        warnings,
        undefined,
        0,
      ];
      this.isSearching = false;
    } catch (error) {
      if (isAbort(error)) return;
      this.failure = error;
      this.isSearching = false;
    }
  }

  /** The row, from before the last search if it has not arrived yet. */
  row(index: number): RunRow | undefined {
    return this.pages.row(index) ?? this.#recent.get(this.ids[index] ?? '');
  }

  show(first: number, end: number): void {
    this.#view = [first, end];
    this.pages.show(first, end, this.ids.length);
  }

  /** Reads the rows that stay on top. */
  async pin(ids: readonly string[], signal?: AbortSignal): Promise<void> {
    try {
      const rows = await this.read(ids, Urgency.Visible, signal);
      this.pinned = new Map(rows.flatMap(row => (row ? [[row.run.runId, row]] : [])));
    } catch (error) {
      toaster.error(error, 'SearchService.Runs', () => void this.pin(ids));
    }
  }

  /** Takes over what the stream says, and reads the values of changed runs in view again. */
  onchanges(changes: readonly RunChange[]): void {
    for (const { runId, change, data } of changes) {
      if (this.pinned.has(runId)) this.#changed.add(runId);
      const at = this.#known.get(runId);
      const run = change.case === 'run' ? change.value : undefined;
      if (at === undefined) {
        // A change of a run that does not match the search is none of this table.
        const isNew = run?.props?.active && Date.now() - Number(run.props.createdUs / 1000n) < 60_000;
        if (isNew && !this.#changed.has(runId)) this.newRuns += 1;
        if (isNew) this.#changed.add(runId);
        continue;
      }
      const props = run?.props;
      if (props) this.#replace(runId, row => ({ ...row, run: { ...row.run, props } }));
      if (data || props) this.#changed.add(runId);
    }
    this.#refreshTimer ??= setTimeout(() => void this.#refresh(), REFRESH_MS);
  }

  stop(): void {
    clearTimeout(this.#refreshTimer);
    this.pages.clear();
  }

  async #refresh(): Promise<void> {
    this.#refreshTimer = undefined;
    const [first, end] = this.#view;
    const shown = new Set([...this.ids.slice(first, end), ...this.pinned.keys()]);
    const ids = [...shown].filter(id => this.#changed.delete(id));
    try {
      for (const row of await this.read(ids, Urgency.Refresh)) {
        if (!row) continue;
        this.#replace(row.run.runId, () => row);
        if (this.pinned.has(row.run.runId)) this.pinned = new Map([...this.pinned, [row.run.runId, row]]);
      }
    } catch {
      // The connection is lost, as the foot of the page says; the next change tries again.
    }
  }

  #replace(runId: string, change: (row: RunRow) => RunRow): void {
    this.pages.update(row => (row?.run.runId === runId ? change(row) : row));
  }

  /** Reads rows by id; those that were deleted are undefined. */
  async read(
    ids: readonly string[],
    urgency: Urgency,
    signal?: AbortSignal,
  ): Promise<(RunRow | undefined)[]> {
    const runs = await readRuns([...ids], partsFor(this.columns), urgency, signal);
    return ids.map(id => {
      const run = runs.get(id);
      if (!run) return undefined;
      const row = { run, params: decodeMap(run.params) };
      if (this.#recent.size >= MAX_RECENT) this.#recent.clear();
      this.#recent.set(id, row);
      this.#compare(row);
      return row;
    });
  }

  #compare(row: RunRow): void {
    const found = this.columns.filter(column => {
      const text = columnText(column);
      if (this.differing.has(text)) return false;
      const value = valueIn(row, column);
      const written = value === undefined ? '' : exactValue(value);
      const first = this.#first.get(text);
      if (first === undefined) this.#first.set(text, written);
      return first !== undefined && first !== written;
    });
    if (found.length > 0) this.differing = new Set([...this.differing, ...found.map(columnText)]);
  }

  async #chooseColumns(ids: readonly string[], signal: AbortSignal): Promise<DataColumn[]> {
    if (this.columns.length > 0) return [...this.columns];
    const parts = { props: true, params: true, seriesTypes: [SeriesType.METRIC] };
    const runs = await readRuns(ids.slice(0, SAMPLE_RUNS), parts, Urgency.Visible, signal);
    const sample = [...runs.values()].map(({ params, series }) => ({ params: decodeMap(params), series }));
    return [...PROP_COLUMNS, ...defaultColumns(sample)];
  }
}
