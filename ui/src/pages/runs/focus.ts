/**
 * The row on which keys act. It goes with its run, or with the heading of its group, when rows are
 * added, removed or sorted.
 */
import type { TableRows } from './sections.svelte.ts';

export interface Focus {
  /** The row when it was last seen. */
  row: number;
  /** Identifies what the row shows; undefined while its run is being loaded. */
  key: string | undefined;
}

export const NO_FOCUS: Focus = { row: -1, key: undefined };

/** The row that has the focus; -1 if its run is gone. */
export function focusedRow(rows: TableRows, { row, key }: Focus): number {
  const here = rows.keyAt(row);
  const isThere = key === undefined || here === key;
  const moved = isThere ? -1 : rows.rowOf(key);
  if (moved >= 0) return moved;
  // The run of a row that is not there yet may be the one.
  return rows.at(row) && (isThere || here === undefined) ? row : -1;
}

/** The focus with the row where it is now, and with the run that has been loaded there. */
export function followed(rows: TableRows, focus: Focus): Focus {
  const row = focusedRow(rows, focus);
  const key = focus.key ?? rows.keyAt(row);
  return row < 0 || (row === focus.row && key === focus.key) ? focus : { row, key };
}

/** The focus some rows further down. The row after a run that is gone has taken its place. */
export function stepped(rows: TableRows, focus: Focus, by: number): Focus {
  const row = focusedRow(rows, focus);
  const wanted = row >= 0 ? row + by : focus.row + (by > 0 ? by - 1 : by);
  const next = Math.min(Math.max(wanted, 0), rows.count - 1);
  return { row: next, key: rows.keyAt(next) };
}
