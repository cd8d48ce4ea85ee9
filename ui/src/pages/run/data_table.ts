/** Tables in files: separated values, and the tables that W&B's and our packages store as JSON. */
import { byName, hasText } from '../../collections.ts';
import { tableRows } from './artifact_tree.ts';

/** A text, or the picture, recording or video of an artifact of the same run. */
export interface Cell {
  text: string;
  picture?: string;
  /** The path of a recording or a video, which the browser plays from its address. */
  sound?: string;
  video?: string;
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

/** The types of cells that are files, as W&B's and our packages write them. */
const MEDIA: { [type: string]: 'picture' | 'sound' | 'video' } = {
  'image-file': 'picture',
  'audio-file': 'sound',
  'video-file': 'video',
};

function cellOf(value: unknown): Cell {
  if (value === null || value === undefined) return { text: '' };
  if (typeof value === 'string') return { text: value };
  if (typeof value !== 'object') return { text: String(value) };
  const { _type: type, path, caption } = value as Record<string, unknown>;
  const kind = MEDIA[String(type)];
  if (!kind || typeof path !== 'string') return { text: JSON.stringify(value) };
  return { text: typeof caption === 'string' ? caption : '', [kind]: path };
}

/** Whether a cell has more than text. */
export function isMedia({ picture, sound, video }: Cell): boolean {
  return (picture ?? sound ?? video) !== undefined;
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

/** Such as `score > 0.9` or `label != prediction`. */
const CONDITION = /^\s*(.+?)\s*(<=|>=|==|!=|=|<|>)\s*(.*?)\s*$/;

function isTrue(operator: string, left: string, right: string): boolean {
  const areNumbers = isNumeric(left) && isNumeric(right);
  if (/^([!=]=|=)$/.test(operator)) {
    const isEqual = areNumbers ? Number(left) === Number(right) : left === right;
    return isEqual === (operator !== '!=');
  }
  // Texts have no order that a reader would look for.
  if (!areNumbers) return false;
  const by = Number(left) - Number(right);
  if (by === 0) return operator.endsWith('=');
  return by < 0 === operator.startsWith('<');
}

/** Undefined for a text that does not begin with the name of a column and an operator. */
function conditionOf(
  columns: readonly string[],
  text: string,
): ((row: Cell[]) => boolean) | undefined {
  const [, name = '', operator = '', value = ''] = CONDITION.exec(text) ?? [];
  const placeOf = (wanted: string): number =>
    columns.findIndex(column => column.toLowerCase() === wanted.toLowerCase());
  const at = placeOf(name);
  if (at < 0) return undefined;
  const other = placeOf(value);
  const literal = value.replace(/^(["'])(.*)\1$/, '$2');
  return row =>
    isTrue(operator, row[at]?.text ?? '', other < 0 ? literal : (row[other]?.text ?? ''));
}

/** A quoted value after an operator, which may contain the word, or an `and` between conditions. */
const QUOTED_OR_AND = /[<>=]\s*(?:"[^"]*"|'[^']*')|\s+and\s+/gi;

/** The texts between each `and` outside of quotes. */
function partsOf(text: string): string[] {
  const parts: string[] = [];
  let start = 0;
  for (const { 0: found, index } of text.matchAll(QUOTED_OR_AND)) {
    if (/^[<>=]/.test(found)) continue;
    parts.push(text.slice(start, index));
    start = index + found.length;
  }
  return [...parts, text.slice(start)];
}

/** Conditions that `and` joins, or a text in any cell. */
function isWanted({ columns }: DataTable, text: string): (row: Cell[]) => boolean {
  const conditions = partsOf(text).map(part => conditionOf(columns, part));
  if (conditions.every(condition => condition !== undefined))
    return row => conditions.every(condition => condition(row));
  return row => row.some(cell => hasText(cell.text, text));
}

/** Rows that decide the widths of columns. */
const MEASURED_ROWS = 200;
const CHAR_PX = 7;
const PADDING_PX = 24;
const MIN_COLUMN_PX = 64;
const MAX_COLUMN_PX = 360;

/** The width of each column in pixels, by the texts in the first rows. Pictures have `picturePx`. */
export function columnWidths({ columns, rows }: DataTable, picturePx: number): number[] {
  const measured = rows.slice(0, MEASURED_ROWS);
  return columns.map((title, at) => {
    const lengths = measured.map(row => row[at]?.text.length ?? 0);
    const wanted = CHAR_PX * Math.max(title.length, ...lengths) + PADDING_PX;
    const hasMedia = measured.some(row => row[at] && isMedia(row[at]));
    const least = hasMedia ? picturePx : MIN_COLUMN_PX;
    return Math.max(least, Math.min(wanted, MAX_COLUMN_PX));
  });
}

/**
 * The rows that meet the conditions of a text, or contain the text in any cell, in the order of a column. Empty cells
 * come last, and numbers before texts.
 */
export function shownRows(
  table: DataTable,
  text: string,
  order: TableOrder | undefined,
): readonly Cell[][] {
  const found = text.trim() === '' ? table.rows : table.rows.filter(isWanted(table, text));
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
