import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { RunSchema } from '../../gen/matyan/runs/v1/run_pb.ts';
import { GroupSchema } from '../../gen/matyan/search/v1/search_pb.ts';
import { focusedRow, followed, NO_FOCUS, stepped } from './focus.ts';
import type { RunRow } from './search.ts';
import { Section, TableRows } from './sections.svelte.ts';

const search = { query: '', sort: [], columns: [], by: [], differ: false };
const rowOf = (runId: string): RunRow => ({ run: create(RunSchema, { runId }), params: {} });

/** Runs whose ids are letters; a dash is a run that is not loaded. */
function section(ids: string, token = ''): Section {
  const fail = (error: unknown): never => expect.unreachable(String(error));
  const one = new Section(search, () => new Promise(() => {}), fail);
  if (token) one.update(create(GroupSchema, { token, runCount: BigInt(ids.length) }), []);
  one.count = ids.length;
  one.pages.begin(
    [...ids].map(id => (id === '-' ? undefined : rowOf(id))),
    ids.length,
  );
  return one;
}

const listed = (ids: string): TableRows => new TableRows([section(ids)], new Set());
const onRun = (rows: TableRows, row: number) => stepped(rows, { row, key: undefined }, 0);

test('the focus goes with its run when rows are added, removed or sorted', () => {
  const focus = onRun(listed('abc'), 1);
  expect(focus).toEqual({ row: 1, key: 'b' });
  const moved = ['abc', 'xabc', 'bc', 'cba', 'ac', '', '-b', 'a-c'];
  expect(moved.map(ids => focusedRow(listed(ids), focus))).toEqual([1, 2, 0, 1, -1, -1, 1, 1]);
  expect(followed(listed('xabc'), focus)).toEqual({ row: 2, key: 'b' });
  // The place of a run that is gone is where its neighbors are.
  expect(followed(listed('ac'), focus)).toBe(focus);
});

test('the focus moves from the row where its run is now, or was last', () => {
  const focus = onRun(listed('abc'), 1);
  const keyOf = (ids: string, by: number) => stepped(listed(ids), focus, by).key;
  expect([keyOf('xyzabc', 1), keyOf('xyzabc', -1)]).toEqual(['c', 'a']);
  expect([keyOf('ac', 1), keyOf('ac', -1)]).toEqual(['c', 'a']);
  expect([keyOf('bc', -1), keyOf('ab', 1)]).toEqual(['b', 'b']);
  expect([stepped(listed('abc'), NO_FOCUS, 1).key, focusedRow(listed('abc'), NO_FOCUS)]).toEqual([
    ...['a', -1],
  ]);
});

test('a row gets the focus before its run is loaded, and then keeps it', () => {
  const focus = onRun(listed('a-'), 1);
  expect([focus.key, focusedRow(listed('a-'), focus)]).toEqual([undefined, 1]);
  const loaded = followed(listed('ab'), focus);
  expect(loaded).toEqual({ row: 1, key: 'b' });
  expect(focusedRow(listed('ba'), loaded)).toBe(0);
});

test('the focus on a heading goes with its group', () => {
  const [one, two] = [section('ab', 'one'), section('cd', 'two')];
  const closed = new TableRows([one, two], new Set());
  const onHeading = onRun(closed, 1);
  const open = new TableRows([one, two], new Set(['one', 'two']));
  expect(focusedRow(open, onHeading)).toBe(3);
  const inGroup = onRun(open, 4);
  expect(inGroup.key).toBe('c');
  expect(focusedRow(new TableRows([two, one], new Set(['two'])), inGroup)).toBe(1);
  expect(focusedRow(closed, inGroup)).toBe(-1);
});
