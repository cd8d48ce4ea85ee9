import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { PageListSchema } from '../gen/matyan/published/v1/published_pb.ts';
import { thinned } from './answers.ts';
import { CopyFiles, joinedRanges, pagesOver } from './files.ts';

const FILE = Uint8Array.from({ length: 300_000 }, (_, at) => at % 251);
const LIST = create(PageListSchema, {
  offset: 10n,
  firstSteps: [-5n, 0n, 7n, 100n],
  lengths: [10, 20, 200_000, 30],
  lastStep: 120n,
});

/** A web server with one file, and the ranges that it was asked for. */
function webServer(hasRanges: boolean): { files: CopyFiles; asked: string[] } {
  const asked: string[] = [];
  const answer = async (_: unknown, init?: RequestInit): Promise<Response> => {
    const range = new Headers(init?.headers).get('range') ?? '';
    asked.push(range);
    const [, start, end] = /^bytes=(\d+)-(\d*)$/.exec(range) ?? [];
    if (!hasRanges) return new Response(FILE);
    return new Response(FILE.slice(Number(start), end ? Number(end) + 1 : undefined), {
      status: 206,
    });
  };
  return { files: new CopyFiles(answer as typeof fetch, path => path), asked };
}

test('pages are found by their steps', () => {
  expect(pagesOver(LIST, -Infinity, Infinity)).toEqual([0, 1, 2, 3]);
  expect(pagesOver(LIST, 0, 6)).toEqual([1]);
  expect(pagesOver(LIST, 3, 7)).toEqual([1, 2]);
  expect(pagesOver(LIST, 200, 300)).toEqual([3]);
  expect(pagesOver(LIST, -9, -6)).toEqual([]);
  expect(pagesOver(create(PageListSchema), 0, 9)).toEqual([]);
});

test('pages that are close to each other are one request', async () => {
  const { files, asked } = webServer(true);
  const pages = await files.pages('a', LIST, [0, 1, 3]);
  expect(pages.map(page => page.length)).toEqual([10, 20, 30]);
  expect(pages[2]).toEqual(FILE.slice(200_040, 200_070));
  expect(asked).toEqual(['bytes=10-39', 'bytes=200040-200069']);
  expect(joinedRanges([])).toEqual([]);
});

test('a web server without ranges sends a file once', async () => {
  const { files, asked } = webServer(false);
  await files.read('run.bin');
  const [first, second] = await Promise.all([
    files.pages('a', LIST, [0, 3]),
    files.pages('a', LIST, [1]),
  ]);
  expect(first).toEqual([FILE.slice(10, 20), FILE.slice(200_040, 200_070)]);
  expect(second).toEqual([FILE.slice(20, 40)]);
  expect(asked.length).toBe(2);
});

test('a part of the wrong length is an error', async () => {
  const short = async (): Promise<Response> => new Response(FILE.slice(0, 5), { status: 206 });
  const files = new CopyFiles(short as typeof fetch, path => path);
  await expect(files.pages('a', LIST, [0])).rejects.toThrow('instead of 10');
  const missing = async (): Promise<Response> => new Response(null, { status: 404 });
  const none = new CopyFiles(missing as typeof fetch, path => path);
  await expect(none.pages('a', LIST, [0])).rejects.toThrow('answered 404 for the file a');
});

test('steps are thinned evenly, with the first and the last one', () => {
  expect(thinned([1, 2, 3], 0)).toEqual([1, 2, 3]);
  expect(thinned([1, 2, 3], 3)).toEqual([1, 2, 3]);
  expect(thinned([...Array(11).keys()], 3)).toEqual([0, 5, 10]);
  expect(thinned([...Array(4).keys()], 1)).toEqual([0]);
});
