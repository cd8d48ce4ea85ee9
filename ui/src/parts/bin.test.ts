import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import {
  BinBatchRequestSchema,
  BinBatchResponseSchema,
  RestoreBatchRequestSchema,
  RestoreBatchResponseSchema,
} from '../gen/matyan/runs/v1/runs_pb.ts';
import { toaster } from '../state/toasts.svelte.ts';
import { binMove, restoreFromBin } from './bin.ts';

/** A flag and the length of the message, before each message of gRPC-web. */
const FRAME_HEAD_BYTES = 5;
const TRAILERS = 0x80;

/** Runs of a server, by the answers that it gives. */
let visible: Set<string>;
let binned: Set<string>;
let damaged: Set<string>;
/** The calls that fail, from 1, and whether the server has done its work before. */
let failures: Map<number, 'before' | 'after'>;
let calls: number;

function frame(flag: number, content: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(FRAME_HEAD_BYTES + content.length);
  bytes[0] = flag;
  new DataView(bytes.buffer).setUint32(1, content.length);
  bytes.set(content, FRAME_HEAD_BYTES);
  return bytes;
}

function move(ids: readonly string[], from: Set<string>, to: Set<string>): [string[], string[]] {
  const unknown = ids.filter(id => !from.has(id) && !damaged.has(id));
  for (const id of ids) if (from.delete(id)) to.add(id);
  return [unknown, ids.filter(id => damaged.has(id))];
}

function answer(method: string, message: Uint8Array): Uint8Array {
  if (method === 'BinBatch') {
    const { runIds } = fromBinary(BinBatchRequestSchema, message);
    const [unknown, damaged] = move(runIds, visible, binned);
    return toBinary(BinBatchResponseSchema, create(BinBatchResponseSchema, { unknown, damaged }));
  }
  const { runIds } = fromBinary(RestoreBatchRequestSchema, message);
  const [unknown, damaged] = move(runIds, binned, visible);
  return toBinary(
    RestoreBatchResponseSchema,
    create(RestoreBatchResponseSchema, { unknown, damaged }),
  );
}

beforeEach(() => {
  visible = new Set(['a', 'b', 'c', 'd']);
  binned = new Set();
  damaged = new Set();
  failures = new Map();
  calls = 0;
  vi.stubGlobal('fetch', async (url: string, { body }: { body: Uint8Array }) => {
    calls += 1;
    const failure = failures.get(calls);
    if (failure === 'before') throw new TypeError('the network is gone');
    const content = answer(url.split('/').pop() ?? '', body.subarray(FRAME_HEAD_BYTES));
    if (failure === 'after') throw new TypeError('the network is gone');
    const trailers = frame(TRAILERS, new TextEncoder().encode('grpc-status: 0\r\n'));
    return new Response(new Blob([frame(0, content), trailers] as BlobPart[]), {
      headers: { 'content-type': 'application/grpc-web+proto' },
    });
  });
});

afterEach(() => {
  for (const { id } of toaster.toasts) toaster.close(id);
  vi.unstubAllGlobals();
});

function messages(): string[] {
  return toaster.toasts.map(({ message }) => message);
}

async function undo(): Promise<void> {
  const last = toaster.toasts.filter(toast => toast.undo).pop();
  last?.undo?.();
  await vi.waitFor(() => expect(messages().some(text => text.endsWith('back.'))).toBe(true));
}

test('runs that are moved to the bin are counted, not those that were asked for', async () => {
  damaged = new Set(['b']);
  visible.delete('b');
  const moved = await binMove()([['a', 'b', 'c', 'gone']]);
  expect([...moved.damaged]).toEqual(['b']);
  expect(messages()).toEqual([
    '2 runs are in the bin for a week.',
    'One run has been deleted by someone else.',
  ]);
  await undo();
  expect([...visible].sort()).toEqual(['a', 'c', 'd']);
});

test('the page of the runs is told that they are back', async () => {
  const onback = vi.fn();
  await binMove(onback)([['a']]);
  expect(onback).not.toHaveBeenCalled();
  await undo();
  await vi.waitFor(() => expect(onback).toHaveBeenCalledOnce());
});

test('an undo leaves runs in the bin that someone else has moved there', async () => {
  visible.delete('b');
  binned.add('b');
  await binMove()([['a', 'b']]);
  await undo();
  expect([[...visible].sort(), [...binned]]).toEqual([['a', 'c', 'd'], ['b']]);
});

test('a failure half-way offers an undo, and a retry one for all', async () => {
  failures.set(2, 'before');
  const move = binMove();
  await expect(
    move([
      ['a', 'b'],
      ['c', 'd'],
    ]),
  ).rejects.toThrow();
  expect(messages()).toEqual(['2 runs are in the bin for a week.']);
  // A query finds only the runs that are left.
  await move([[...visible]]);
  expect(messages().at(-1)).toBe('4 runs are in the bin for a week.');
  await undo();
  expect([...visible].sort()).toEqual(['a', 'b', 'c', 'd']);
});

test.each([
  ['chosen runs', [['a', 'b']]],
  ['a query', [[]]],
])('runs whose answer was lost are not taken for runs of someone else: %s', async (_, again) => {
  failures.set(1, 'after');
  const move = binMove();
  await expect(move([['a', 'b']])).rejects.toThrow();
  expect(messages()).toEqual([]);
  await move(again);
  expect(messages()).toEqual(['2 runs are in the bin for a week.']);
  await undo();
  expect([...visible].sort()).toEqual(['a', 'b', 'c', 'd']);
});

test('runs that do not come back are named', async () => {
  binned = new Set(['x']);
  damaged = new Set(['y']);
  await restoreFromBin([['x', 'y', 'z']]);
  expect(messages()).toEqual([
    'The run is back.',
    'One run has been deleted by someone else.',
    'The run is damaged and cannot be brought back: y',
  ]);
});
