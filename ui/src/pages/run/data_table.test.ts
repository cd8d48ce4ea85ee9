import { expect, test } from 'vitest';

import { columnWidths, nextOrder, readTable, shownRows, type DataTable } from './data_table.ts';

const TABLE = readTable(
  'media/table/predictions.table.json',
  JSON.stringify({
    columns: ['id', 'label', 'image'],
    data: [
      [10, 'cat', { _type: 'image-file', path: 'media/images/a.png', caption: 'a cat' }],
      [9, 'dog', null],
      ['x', 'Cat 2', { boxes: 1 }],
      [null, 'cat 10', '<b>'],
      'no row',
    ],
  }),
)!;
const ids = (rows: readonly { text: string }[][]): string[] => rows.map(row => row[0]?.text ?? '');

test('tables of JSON have texts, and pictures of artifacts', () => {
  expect(TABLE.columns).toEqual(['id', 'label', 'image']);
  expect(TABLE.rows.length).toBe(4);
  expect(TABLE.rows[0]?.[2]).toEqual({ text: 'a cat', picture: 'media/images/a.png' });
  expect(TABLE.rows[1]?.[2]).toEqual({ text: '' });
  expect(TABLE.rows[2]?.[2]).toEqual({ text: '{"boxes":1}' });
});

test('a file that is not a table is not read as one', () => {
  for (const text of ['{"columns": ["a"], "data": [[1', '[]', '{"columns": 1, "data": 2}', 'null'])
    expect(readTable('x.table.json', text), text).toBeUndefined();
  expect(readTable('x.csv', 'a,b\n1,"2,3"\n')).toEqual<DataTable>({
    columns: ['a', 'b'],
    rows: [[{ text: '1' }, { text: '2,3' }]],
  });
});

test('rows are found by any cell, in any case', () => {
  expect(ids(shownRows(TABLE, 'CAT', undefined))).toEqual(['10', 'x', '']);
  expect(ids(shownRows(TABLE, '  ', undefined)).length).toBe(4);
  expect(shownRows(TABLE, 'hologram', undefined)).toEqual([]);
});

test('rows are found by conditions of columns, which are compared with each other, too', () => {
  const found = (text: string): string[] =>
    ids(
      shownRows(
        readTable('x.csv', 'id,label,guess,my score\n1,cat,cat,0.2\n2,cat,dog,0.9\n3,fox,dog,\n')!,
        text,
        undefined,
      ),
    );
  expect(found('my score > 0.5')).toEqual(['2']);
  expect(found('my score<=0.90')).toEqual(['1', '2']);
  expect(found('Label = "cat" and label != guess')).toEqual(['2']);
  expect(found('guess == dog AND my score =')).toEqual(['3']);
  const notes = {
    columns: ['id', 'note'],
    rows: [
      [{ text: '1' }, { text: 'rock and roll' }],
      [{ text: '2' }, { text: "it's loud" }],
    ],
  };
  const noted = (text: string): string[] => ids(shownRows(notes, text, undefined));
  expect(noted('note = "rock and roll" and id = 1')).toEqual(['1']);
  expect(noted("id = 1 and note != 'soft and low'")).toEqual(['1']);
  expect(noted("note = it's loud and id = 2")).toEqual(['2']);
  // Without such a column it is a text.
  expect(found('loss > 0')).toEqual([]);
});

test('cells may be recordings and videos', () => {
  const cells = [
    { _type: 'audio-file', path: 'a.wav', caption: 'a cat' },
    { _type: 'video-file', path: 'b.mp4' },
    { _type: 'object3D-file', path: 'c.obj' },
  ];
  const table = readTable('t.table.json', JSON.stringify({ columns: ['x'], data: [cells] }));
  expect(table?.rows[0]).toEqual([
    { text: 'a cat', sound: 'a.wav' },
    { text: '', video: 'b.mp4' },
    { text: JSON.stringify(cells[2]) },
  ]);
});

test('columns are as wide as their texts and pictures need', () => {
  const [id, label, image] = columnWidths(TABLE, 150);
  expect([id, image]).toEqual([64, 150]);
  expect(label).toBeGreaterThan(64);
  const long = { columns: ['a'], rows: [[{ text: 'x'.repeat(1_000) }]] };
  expect(columnWidths(long, 150)).toEqual([360]);
});

test('numbers are sorted by value, texts by name, and empty cells come last', () => {
  expect(ids(shownRows(TABLE, '', { column: 0, isDescending: false }))).toEqual([
    '9',
    '10',
    'x',
    '',
  ]);
  expect(ids(shownRows(TABLE, '', { column: 0, isDescending: true }))).toEqual([
    '10',
    '9',
    'x',
    '',
  ]);
  const labels = shownRows(TABLE, '', { column: 1, isDescending: false }).map(row => row[1]?.text);
  expect(labels).toEqual(['cat', 'Cat 2', 'cat 10', 'dog']);
});

test('a heading sorts up, then down, and then as in the file', () => {
  const up = nextOrder(undefined, 1);
  expect(up).toEqual({ column: 1, isDescending: false });
  expect(nextOrder(up, 1)).toEqual({ column: 1, isDescending: true });
  expect(nextOrder(nextOrder(up, 1), 1)).toBeUndefined();
  expect(nextOrder(up, 2)).toEqual({ column: 2, isDescending: false });
});
