import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { ArtifactSchema } from '../../gen/matyan/artifacts/v1/artifact_pb.ts';
import {
  indentedJson,
  isPlayed,
  previewKind,
  tableRows,
  totalSize,
  treeRows,
} from './artifact_tree.ts';

const artifacts = ['b.txt', 'a/2.txt', 'a/10.txt', 'a/c/x', 'a.txt'].map(path =>
  create(ArtifactSchema, { path, size: 5n }),
);

test('paths become a tree', () => {
  const rows = treeRows(artifacts, new Set()).map(({ name, depth, size }) => [name, depth, size]);
  expect(rows).toEqual([
    ['a', 0, 15],
    ['c', 1, 5],
    ['x', 2, 5],
    ['2.txt', 1, 5],
    ['10.txt', 1, 5],
    ['a.txt', 0, 5],
    ['b.txt', 0, 5],
  ]);
  expect(treeRows(artifacts, new Set(['a/'])).map(({ path }) => path)).toEqual([
    'a/',
    'a.txt',
    'b.txt',
  ]);
});

test('the size of a folder is unknown if the size of one file is', () => {
  const unknown = create(ArtifactSchema, { path: 'a/c/y' });
  expect(
    treeRows([...artifacts, unknown], new Set()).map(({ path, size }) => [path, size]),
  ).toEqual([
    ['a/', undefined],
    ['a/c/', undefined],
    ['a/c/x', 5],
    ['a/c/y', undefined],
    ['a/2.txt', 5],
    ['a/10.txt', 5],
    ['a.txt', 5],
    ['b.txt', 5],
  ]);
  expect([totalSize(artifacts), totalSize([...artifacts, unknown]), totalSize([])]).toEqual([
    25,
    undefined,
    0,
  ]);
});

test('files are shown by name and content', () => {
  const text = new TextEncoder().encode('hello');
  expect(
    ['x.PNG', 'x.json', 'x.csv', 'x.patch', 'x.svg', 'README'].map(path => previewKind(path, text)),
  ).toEqual(['image', 'json', 'table', 'diff', 'text', 'text']);
  const binary = Uint8Array.of(1, 0, 2);
  expect(previewKind('model.bin', binary)).toBe('none');
  // The content of media is not looked at: the browser reads it.
  expect(
    ['x.mp4', 'x.WAV', 'x.table.json'].map(path => previewKind(path, new Uint8Array())),
  ).toEqual(['video', 'audio', 'table']);
  expect(['x.mp4', 'x.WAV', 'x.png', 'x.csv'].filter(isPlayed)).toEqual(['x.mp4', 'x.WAV']);
});

test('separated values', () => {
  expect(tableRows('a,b\r\n"1, ""2""\n3",\n', ',')).toEqual([
    ['a', 'b'],
    ['1, "2"\n3', ''],
  ]);
  expect(tableRows('a\tb', '\t')).toEqual([['a', 'b']]);
  expect(tableRows('', ',')).toEqual([]);
});

test('JSON is indented if it is complete', () => {
  expect(indentedJson('{"a":1}')).toBe('{\n  "a": 1\n}');
  expect(indentedJson('{"a":')).toBe('{"a":');
});
