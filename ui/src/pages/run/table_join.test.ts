import { expect, test } from 'vitest';

import { readTable, type DataTable } from './data_table.ts';
import {
  differingRows,
  joinTables,
  likelyKey,
  MAX_JOINED_COLUMNS,
  tableFamily,
} from './table_join.ts';

const csv = (text: string): DataTable => readTable('x.csv', text)!;
const FIRST = csv('label,id,score,note\ncat,1,0.5,x\ndog,2,1,\ncat,3,0.9,z\n');
const SECOND = csv('id,label,score\n3,cat,0.90\n1,dog,0.5\n4,owl,0.1\n');
const joined = (first: DataTable, second: DataTable, key: string) =>
  joinTables({ runId: 'a', table: first }, { runId: 'b', table: second }, key);
const texts = ({ rows }: DataTable): string[] =>
  rows.map(row => row.map(({ text, isDifferent }) => (isDifferent ? `${text}!` : text)).join('|'));

test('rows are joined by a key, and cells that differ are marked', () => {
  const table = joined(FIRST, SECOND, 'id');
  expect(table.columns).toEqual([
    'id',
    'label · A',
    'label · B',
    'score · A',
    'score · B',
    'note · A',
  ]);
  expect(texts(table)).toEqual([
    '1|cat!|dog!|0.5|0.5|x',
    '2!|dog!||1!||!',
    '3|cat|cat|0.9|0.90|z',
    '4!||owl!||0.1!|',
  ]);
  expect(table).toMatchObject({ differing: 1, onlyFirst: 1, onlySecond: 1, isCut: false });
  expect(texts(differingRows(table)).map(row => row[0])).toEqual(['1', '2', '4']);
});

test('rows with the same key are pairs in their order, so that a join cannot grow', () => {
  const same = csv(`k,v\n${'a,1\n'.repeat(1_000)}`);
  const table = joined(same, csv(`k,v\n${'a,1\n'.repeat(999)}b,2\n`), 'k');
  expect(table.rows.length).toBe(1_001);
  expect(table).toMatchObject({ differing: 0, onlyFirst: 1, onlySecond: 1 });
});

test('the key is the first shared column with a value of its own in each row', () => {
  expect(likelyKey(FIRST, SECOND)).toBe('id');
  expect(likelyKey(csv('a,b\n1,1\n1,1\n'), csv('b,a\n1,2\n'))).toBe('a');
  expect(likelyKey(csv('a\n1\n'), csv('b\n1\n'))).toBeUndefined();
});

test('pictures belong to the runs of their tables, and differ by their paths', () => {
  const table = (path: string): DataTable =>
    readTable(
      't.table.json',
      JSON.stringify({ columns: ['id', 'image'], data: [[1, { _type: 'image-file', path }]] }),
    )!;
  const [row] = joined(table('a.png'), table('b.png'), 'id').rows;
  expect(row?.slice(1)).toEqual([
    { text: '', picture: 'a.png', runId: 'a', isDifferent: true },
    { text: '', picture: 'b.png', runId: 'b', isDifferent: true },
  ]);
  expect(joined(table('a.png'), table('a.png'), 'id').differing).toBe(0);
});

test('a join has a bounded number of columns, and says so', () => {
  const names = Array.from({ length: MAX_JOINED_COLUMNS + 50 }, (_, at) => `c${at}`);
  const wide = csv(`${names.join()}\n${names.join()}\n`);
  const table = joined(wide, wide, 'c0');
  expect(table.columns.length).toBe(1 + 2 * MAX_JOINED_COLUMNS);
  expect(table.isCut).toBe(true);
});

test('a join has a bounded number of cells, and counts the rows that it leaves out', () => {
  const one = { runId: 'a', table: FIRST };
  const other = { runId: 'b', table: SECOND };
  const whole = joinTables(one, other, 'id');
  const short = joinTables(one, other, 'id', 2 * whole.columns.length);
  expect(texts(short)).toEqual(texts(whole).slice(0, 2));
  expect(short).toMatchObject({ isShort: true, differing: 1, onlyFirst: 1, onlySecond: 1 });
  expect(whole.isShort).toBe(false);
});

test('tables of other steps are of the same family', () => {
  const [first, ...others] = [
    'media/table/predictions_5_0123456789abcdef0123.table.json',
    'media/table/predictions_12_fedcba98765432100123.table.json',
    'media/table/predictions_last.table.json',
  ].map(tableFamily);
  expect(others).toEqual([first, first]);
  expect(tableFamily('media/table/other_5.table.json')).not.toBe(first);
  const check = (paths: string[], family: string): void =>
    expect(paths.map(tableFamily)).toEqual(paths.map(() => family));
  check(['x_1.table.json', 'x_-1.table.json', 'x_2_e1.table.json', 'x_e3.table.json'], 'x');
  check(['x_1-0.table.json', 'x_2-0.table.json'], 'x-0');
  check(['a-b.csv', 'a-b_7.csv'], 'a-b');
});
