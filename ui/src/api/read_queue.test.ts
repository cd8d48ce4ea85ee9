import { expect, test } from 'vitest';

import { isAbort } from './errors.ts';
import { ReadQueue, Urgency } from './read_queue.ts';

/** Reads that end when the test says so. */
function scene(limit: number): {
  queue: ReadQueue;
  started: string[];
  end: (name: string) => void;
  add: typeof add;
} {
  const queue = new ReadQueue(limit);
  const started: string[] = [];
  const ends = new Map<string, () => void>();
  function add(name: string, urgency: Urgency, signal?: AbortSignal): Promise<string> {
    return queue.run(urgency, signal, () => {
      started.push(name);
      return new Promise(resolve => ends.set(name, () => resolve(name)));
    });
  }
  return { queue, started, add, end: name => ends.get(name)?.() };
}

const settled = (): Promise<void> => new Promise(resolve => setTimeout(resolve));

test('no more reads run than allowed, the most urgent first', async () => {
  const { started, add, end } = scene(2);
  const first = add('a', Urgency.Refresh);
  void add('b', Urgency.Refresh);
  void add('c', Urgency.Refresh);
  await settled();
  void add('d', Urgency.Visible);
  void add('e', Urgency.Visible);
  await settled();
  expect(started).toEqual(['a', 'b']);
  end('a');
  expect(await first).toBe('a');
  await settled();
  expect(started).toEqual(['a', 'b', 'd']);
  for (const name of ['b', 'd']) end(name);
  await settled();
  expect(started).toEqual(['a', 'b', 'd', 'e', 'c']);
});

test('of the reads that are wanted at the same moment, the most urgent begin', async () => {
  const { started, add } = scene(2);
  for (const name of ['a', 'b']) void add(name, Urgency.Refresh);
  void add('c', Urgency.Visible);
  await settled();
  expect(started).toEqual(['c', 'a']);
});

test('an aborted read never starts', async () => {
  const { queue, started, add, end } = scene(1);
  const control = new AbortController();
  void add('a', Urgency.Visible);
  const waiting = add('b', Urgency.Visible, control.signal);
  control.abort();
  await expect(waiting).rejects.toSatisfy(isAbort);
  await expect(add('c', Urgency.Visible, AbortSignal.abort())).rejects.toSatisfy(isAbort);
  await settled();
  end('a');
  await settled();
  expect(started).toEqual(['a']);
  expect(await queue.run(Urgency.Visible, undefined, async () => 'd')).toBe('d');
});

test('a read that fails makes room for the next', async () => {
  const queue = new ReadQueue(1);
  const failing = queue.run(Urgency.Visible, undefined, () => {
    throw new Error('no');
  });
  await expect(failing).rejects.toThrow('no');
  expect(await queue.run(Urgency.Visible, undefined, async () => 1)).toBe(1);
});
