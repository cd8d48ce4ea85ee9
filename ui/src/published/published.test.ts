import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { PageListSchema } from '../gen/matyan/published/v1/published_pb.ts';
import { readAhead, thinned } from './answers.ts';
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

test('a preview reads the start of a file only, and keeps nothing', async () => {
  let sent = 0;
  let isCancelled = false;
  const endless = async (): Promise<Response> => {
    const body = new ReadableStream<Uint8Array>({
      pull: control => {
        sent += 1;
        control.enqueue(FILE.slice(0, 1_000));
      },
      cancel: () => void (isCancelled = true),
    });
    return new Response(body);
  };
  const files = new CopyFiles(endless as typeof fetch, path => path);
  const start = await files.start('a', 2_500);
  expect([...start.slice(2_000)]).toEqual([...FILE.slice(0, 500)]);
  expect(isCancelled).toBe(true);
  // The stream may be one part ahead of its reader.
  expect(sent).toBeLessThan(5);
  const { files: short } = webServer(false);
  await expect(short.start('a', FILE.length + 1)).rejects.toThrow(`instead of ${FILE.length + 1}`);
});

test('whole files leave when there is no room, but not while they are read', async () => {
  const asked: string[] = [];
  let open = (): void => undefined;
  const opened = new Promise<void>(done => (open = done));
  const answer = async (path: unknown): Promise<Response> => {
    asked.push(String(path));
    if (path === 'slow') await opened;
    if (path === 'broken') return new Response(null, { status: 500 });
    return new Response(FILE);
  };
  const files = new CopyFiles(answer as typeof fetch, path => path, FILE.length);
  const read = (path: string): Promise<Uint8Array[]> => files.pages(path, LIST, [0]);
  await files.read('run.bin');
  const slow = read('slow');
  await expect(read('broken')).rejects.toThrow('answered 500');
  await read('a');
  await read('b');
  await read('b');
  await read('a');
  const again = read('slow');
  open();
  await Promise.all([slow, again]);
  expect(asked).toEqual(['run.bin', 'slow', 'broken', 'a', 'b', 'a']);
});

test('a few items are read ahead, and their results come in order', async () => {
  const begun: number[] = [];
  const found: number[] = [];
  const read = async (item: number): Promise<number> => {
    begun.push(item);
    if (item === 9) throw new Error('the last item is broken');
    return item;
  };
  const reading = readAhead([1, 2, 3, 4, 5], 3, read);
  expect((await reading.next()).value).toBe(1);
  expect(begun).toEqual([1, 2, 3]);
  for await (const item of reading) found.push(item);
  expect(found).toEqual([2, 3, 4, 5]);
  await expect(readAhead([9], 3, read).next()).rejects.toThrow('is broken');
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
