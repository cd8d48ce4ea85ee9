/** Tables in files: separated values, and the tables that W&B's and our packages store as JSON. */
import { byName, hasText } from '../../collections.ts';
import { tableRows } from './artifact_tree.ts';

/** A text, or the picture of an artifact of the same run. */
export interface Cell {
  text: string;
  picture?: string;
  /** In two tables that are joined: the run of the picture, and whether the tables differ. */
  runId?: string;
  isDifferent?: boolean;
}

/** Files are read up to here. The start of a table in JSON is no table. */
export const TABLE_BYTES = 16_000_000;

export interface DataTable {
  columns: string[];
  rows: Cell[][];
}

function cellOf(value: unknown): Cell {
  if (value === null || value === undefined) return { text: '' };
  if (typeof value === 'string') return { text: value };
  if (typeof value !== 'object') return { text: String(value) };
  const { _type: type, path, caption } = value as Record<string, unknown>;
  if (type === 'image-file' && typeof path === 'string')
    return { text: typeof caption === 'string' ? caption : '', picture: path };
  return { text: JSON.stringify(value) };
}

/** Undefined for text that is no table, such as the start of a long one. */
export function readTable(path: string, text: string): DataTable | undefined {
  if (!/\.json$/i.test(path)) {
    const [columns = [], ...rows] = tableRows(text, /\.tsv$/i.test(path) ? '\t' : ',');
    return { columns, rows: rows.map(row => row.map(text => ({ text }))) };
  }
  try {
    const { columns, data } = JSON.parse(text) as { columns?: unknown; data?: unknown };
    if (!Array.isArray(columns) || !Array.isArray(data)) return undefined;
    const rows = data.filter((row): row is unknown[] => Array.isArray(row));
    return { columns: columns.map(String), rows: rows.map(row => row.map(cellOf)) };
  } catch {
    return undefined;
  }
}

export interface TableOrder {
  column: number;
  isDescending: boolean;
}

const isNumeric = (text: string): boolean => text.trim() !== '' && !Number.isNaN(Number(text));

/**
 * The rows that have a text in any cell, in the order of a column. Empty cells come last, and
 * numbers before texts.
 */
export function shownRows(
  { rows }: DataTable,
  text: string,
  order: TableOrder | undefined,
): readonly Cell[][] {
  const found = rows.filter(
    row => text.trim() === '' || row.some(cell => hasText(cell.text, text)),
  );
  if (!order) return found;
  const textOf = (row: Cell[]): string => row[order.column]?.text ?? '';
  const rank = (own: string): number => (own === '' ? 2 : isNumeric(own) ? 0 : 1);
  const sign = order.isDescending ? -1 : 1;
  const compare = (a: string, b: string): number => {
    if (rank(a) !== rank(b)) return rank(a) - rank(b);
    return sign * (rank(a) === 0 ? Number(a) - Number(b) : byName(a, b));
  };
  return found.toSorted((a, b) => compare(textOf(a), textOf(b)));
}

/** The order after a click on a heading: up, down, and as in the file. */
export function nextOrder(order: TableOrder | undefined, column: number): TableOrder | undefined {
  if (order?.column !== column) return { column, isDescending: false };
  return order.isDescending ? undefined : { column, isDescending: true };
}
