import { expect, test } from 'vitest';

import { RowPages } from './row_pages.svelte.ts';

const settled = (): Promise<void> => new Promise(resolve => setTimeout(resolve));

test('rows are loaded by pages, changed, and forgotten', async () => {
  const loads: [number, number][] = [];
  const pages = new RowPages<string>(
    async (first, end) => {
      loads.push([first, end]);
      return Array.from({ length: end - first }, (_, at) => `row ${first + at}`);
    },
    error => expect.unreachable(String(error)),
  );
  pages.show(60, 70, 100);
  expect(pages.row(65)).toBeUndefined();
  await settled();
  expect([pages.row(0), pages.row(65), pages.row(99), pages.row(100)]).toEqual([
    'row 0',
    'row 65',
    'row 99',
    undefined,
  ]);
  pages.show(60, 70, 100);
  expect(loads).toEqual([
    [0, 64],
    [64, 100],
  ]);
  pages.update(row => (row === 'row 65' ? 'changed' : row));
  expect([pages.row(64), pages.row(65)]).toEqual(['row 64', 'changed']);
  pages.clear();
  expect(pages.row(65)).toBeUndefined();
});

test('pages that left the view are aborted, and old ones forgotten', async () => {
  const aborted: number[] = [];
  const pages = new RowPages<number>(
    async (first, _, signal) => {
      signal.addEventListener('abort', () => aborted.push(first));
      await settled();
      return [first];
    },
    () => {},
  );
  pages.show(0, 1, 1e6);
  pages.show(6_400, 6_401, 1e6);
  expect(aborted).toEqual([0]);
  for (let page = 200; page < 260; page++) {
    pages.show(page * 64, page * 64 + 1, 1e6);
    await settled();
    await settled();
  }
  expect([pages.row(6_400), pages.row(259 * 64)]).toEqual([undefined, 259 * 64]);
});

test('a failure is reported with a retry', async () => {
  let isBroken = true;
  const failures: (() => void)[] = [];
  const pages = new RowPages<number>(
    async first => {
      if (isBroken) throw new Error('no');
      return [first];
    },
    (_, retry) => failures.push(retry),
  );
  pages.show(0, 1, 1);
  await settled();
  expect(failures.length).toBe(1);
  isBroken = false;
  failures[0]?.();
  await settled();
  expect(pages.row(0)).toBe(0);
});

test('a row that is set is kept, also while its page is read', async () => {
  let version = 1;
  const pages = new RowPages<string>(
    async first => {
      const read = version;
      await settled();
      return [`row ${first} of version ${read}`];
    },
    error => expect.unreachable(String(error)),
  );
  pages.set(0, 'not in view');
  expect(pages.row(0)).toBeUndefined();
  pages.show(0, 1, 1);
  version = 2;
  pages.set(0, 'missed');
  await settled();
  await settled();
  expect(pages.row(0)).toBe('row 0 of version 2');
  pages.set(1, 'added');
  expect([pages.row(0), pages.row(1)]).toEqual(['row 0 of version 2', 'added']);
});

test('rows that expired stay until they are read again', async () => {
  let version = 1;
  const pages = new RowPages<string>(
    async (first, end) =>
      Array.from({ length: end - first }, (_, at) => `row ${first + at} of version ${version}`),
    error => expect.unreachable(String(error)),
  );
  pages.begin(['first'], 200);
  pages.show(0, 100, 200);
  await settled();
  expect([pages.row(0), pages.row(64)]).toEqual(['first', 'row 64 of version 1']);
  version = 2;
  pages.expire();
  expect(pages.row(64)).toBe('row 64 of version 1');
  pages.show(64, 65, 200);
  await settled();
  expect([pages.row(0), pages.row(64)]).toEqual(['first', 'row 64 of version 2']);
  pages.begin(['newest'], 200);
  expect([pages.row(0), pages.row(64)]).toEqual(['newest', 'row 64 of version 2']);
  version = 3;
  pages.show(0, 100, 200);
  await settled();
  expect([pages.row(0), pages.row(64)]).toEqual(['newest', 'row 64 of version 3']);
});
