import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { GroupSchema } from '../../gen/matyan/search/v1/search_pb.ts';
import { Section, TableRows } from './sections.svelte.ts';

const search = { query: '', sort: [], columns: [], by: ['param:lr'], differ: false };

function section(count: number, token = '', loads: string[] = []): Section {
  const load = async (
    own: Section,
    first: number,
    end: number,
    signal: AbortSignal,
  ): Promise<never[]> => {
    loads.push(`${own.token} ${first} ${end}`);
    signal.addEventListener('abort', () => loads.push(`${own.token} ${first} aborted`));
    return new Promise(() => {});
  };
  const made = new Section(search, load, error => expect.unreachable(String(error)));
  if (token !== '') made.update(create(GroupSchema, { token, runCount: BigInt(count) }), []);
  else made.count = count;
  return made;
}

test('a table without groups has the rows of its runs', () => {
  const all = section(100_000);
  const rows = new TableRows([all], new Set());
  expect(rows.count).toBe(100_000);
  expect([rows.at(0), rows.at(99_999)]).toEqual([
    { section: all, index: 0 },
    { section: all, index: 99_999 },
  ]);
  expect([rows.at(-1), rows.at(100_000), rows.run(3)]).toEqual([undefined, undefined, undefined]);
  expect(new TableRows([], new Set()).at(0)).toBeUndefined();
});

test('groups are headings, with their runs if they are open', () => {
  const a = section(2, 'a');
  const b = section(3, 'b');
  const c = section(1, 'c');
  const rows = new TableRows([a, b, c], new Set(['b', 'gone']));
  expect(rows.count).toBe(6);
  const places = Array.from({ length: rows.count }, (_, row) => rows.at(row));
  expect(places.map(place => [place?.section.token, place?.index])).toEqual([
    ['a', -1],
    ['b', -1],
    ['b', 0],
    ['b', 1],
    ['b', 2],
    ['c', -1],
  ]);
});

test('only runs in view are loaded, and what left it is aborted', () => {
  const loads: string[] = [];
  const a = section(1_000, 'a', loads);
  const b = section(1_000, 'b', loads);
  const c = section(10, 'c', loads);
  const rows = new TableRows([a, b, c], new Set(['a', 'b']));
  rows.show(990, 1_010);
  expect(loads).toEqual(['a 960 1000', 'b 0 64']);
  loads.length = 0;
  rows.show(1_500, 1_520);
  expect(loads).toEqual(['a 960 aborted', 'b 0 aborted', 'b 448 512', 'b 512 576']);
});

test('a heading with another number of runs has them read again', () => {
  const loads: string[] = [];
  const one = section(2, 'a', loads);
  one.pages.begin([undefined, undefined], 2);
  const show = (): void => new TableRows([one], new Set(['a'])).show(0, 10);
  one.update(create(GroupSchema, { token: 'a', runCount: 2n }), []);
  show();
  expect(loads).toEqual([]);
  one.update(create(GroupSchema, { token: 'a', runCount: 3n }), []);
  show();
  expect(loads).toEqual(['a 0 3']);
});
