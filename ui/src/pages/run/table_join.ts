/** Two tables side by side: their rows are joined by a column whose values both have. */
import type { Cell, DataTable } from './data_table.ts';

/** Columns of each table that are joined. More cannot be read side by side. */
export const MAX_JOINED_COLUMNS = 100;

/** Cells of a joined table. A browser keeps about a hundred bytes for each. */
const MAX_JOINED_CELLS = 2_000_000;

/** A table, and the run whose files the pictures of its cells are. */
export interface TableSource {
  runId: string;
  table: DataTable;
}

export interface JoinedTable extends DataTable {
  /** Rows of both tables whose values differ. */
  differing: number;
  /** Rows that only one of the tables has. */
  onlyFirst: number;
  onlySecond: number;
  /** Whether columns were left out. */
  isCut: boolean;
  /** Whether rows were left out, which are only counted. */
  isShort: boolean;
}

/** Columns that both tables have, in the order of the first table. */
export function sharedColumns(first: DataTable, second: DataTable): string[] {
  const known = new Set(second.columns);
  return [...new Set(first.columns)].filter(column => known.has(column));
}

/**
 * The column that most likely says which rows belong together: the first shared column with its own
 * value in each row, or else the first shared column.
 */
export function likelyKey(first: DataTable, second: DataTable): string | undefined {
  const shared = sharedColumns(first, second);
  const isUnique = (table: DataTable, column: string): boolean => {
    const at = table.columns.indexOf(column);
    return new Set(table.rows.map(row => row[at]?.text ?? '')).size === table.rows.length;
  };
  return shared.find(one => isUnique(first, one) && isUnique(second, one)) ?? shared[0];
}

/** The step of a table, its epoch, its place in a list of tables, and the hash that W&B's client adds. */
const PLACE_END =
  /(?:_(?:-?\d+|last))?(?:_e-?\d+)?(-[^/_]*)?(?:_[0-9a-f]{8,})?\.(?:table\.json|csv|tsv)$/i;

/** The part of a path that tables of other steps share. */
export function tableFamily(path: string): string {
  return path.replace(PLACE_END, '$1');
}

const mediaOf = (cell: Cell | undefined): string | undefined =>
  cell?.picture ?? cell?.sound ?? cell?.video;

/** The texts are equal, or numbers of the same value; pictures of other steps have other paths. */
function isSame(first: Cell | undefined, second: Cell | undefined): boolean {
  const one = first?.text ?? '';
  const other = second?.text ?? '';
  if (mediaOf(first) !== mediaOf(second)) return false;
  return (
    one === other || (one.trim() !== '' && other.trim() !== '' && Number(one) === Number(other))
  );
}

interface Side {
  source: TableSource;
  key: number;
  /** Numbers of the columns other than the key, by their names. */
  columns: Map<string, number>;
}

function sideOf(source: TableSource, key: string): Side {
  const { columns } = source.table;
  const named = new Map<string, number>();
  for (const [at, column] of columns.entries())
    if (column !== key && !named.has(column) && named.size < MAX_JOINED_COLUMNS)
      named.set(column, at);
  return { source, key: columns.indexOf(key), columns: named };
}

/** Numbers of rows by the value of the key; the second row of a value belongs to the second one. */
function rowsByKey({ source, key }: Side): Map<string, number> {
  const counts = new Map<string, number>();
  const rows = new Map<string, number>();
  for (const [at, row] of source.table.rows.entries()) {
    const text = row[key]?.text ?? '';
    const count = counts.get(text) ?? 0;
    counts.set(text, count + 1);
    rows.set(JSON.stringify([text, count]), at);
  }
  return rows;
}

/**
 * Joins two tables. A column that both have is two columns next to each other, and cells that differ
 * are marked; so are the cells of a row that the other table lacks.
 */
export function joinTables(
  one: TableSource,
  other: TableSource,
  key: string,
  mostCells = MAX_JOINED_CELLS,
): JoinedTable {
  const first = sideOf(one, key);
  const second = sideOf(other, key);
  const names = [...new Set([...first.columns.keys(), ...second.columns.keys()])];
  const places = names.flatMap(name =>
    [first, second].flatMap((side, at) => {
      const column = side.columns.get(name);
      return column === undefined ? [] : [{ name, side, column, at }];
    }),
  );
  const rows: Cell[][] = [];
  const joined: JoinedTable = {
    columns: [key, ...places.map(({ name, at }) => `${name} · ${at === 0 ? 'A' : 'B'}`)],
    rows,
    differing: 0,
    onlyFirst: 0,
    onlySecond: 0,
    isCut: [one, other].some(({ table }) => table.columns.length > MAX_JOINED_COLUMNS + 1),
    isShort: false,
  };
  const mostRows = Math.ceil(mostCells / joined.columns.length);
  const add = (own: readonly (Cell[] | undefined)[]): void => {
    const keyed = own[0]?.[first.key] ?? own[1]?.[second.key] ?? { text: '' };
    const isWhole = own[0] !== undefined && own[1] !== undefined;
    const differs = (name: string): boolean => {
      const mine = first.columns.get(name);
      const theirs = second.columns.get(name);
      if (!isWhole) return true;
      return (
        mine !== undefined && theirs !== undefined && !isSame(own[0]?.[mine], own[1]?.[theirs])
      );
    };
    const different = new Set(names.filter(differs));
    if (isWhole) joined.differing += different.size > 0 ? 1 : 0;
    else if (own[0]) joined.onlyFirst += 1;
    else joined.onlySecond += 1;
    if (rows.length >= mostRows) {
      joined.isShort = true;
      return;
    }
    const cells = places.map(({ name, side, column, at }): Cell => {
      const cell = own[at]?.[column] ?? { text: '' };
      return { ...cell, runId: side.source.runId, isDifferent: different.has(name) && !!own[at] };
    });
    rows.push([{ text: keyed.text, isDifferent: !isWhole }, ...cells]);
  };
  const left = rowsByKey(first);
  const right = rowsByKey(second);
  for (const [value, at] of left) {
    const partner = right.get(value);
    add([one.table.rows[at], partner === undefined ? undefined : other.table.rows[partner]]);
  }
  for (const [value, at] of right) if (!left.has(value)) add([undefined, other.table.rows[at]]);
  return joined;
}

/** The rows with a difference, or that one of the tables lacks. */
export function differingRows(table: DataTable): DataTable {
  return { ...table, rows: table.rows.filter(row => row.some(({ isDifferent }) => isDifferent)) };
}
