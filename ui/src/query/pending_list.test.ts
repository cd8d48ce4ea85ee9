import { expect, test } from 'vitest';

import { PendingList } from './pending_list.ts';

/** A list, and a function that completes it. */
function openList(): [list: Promise<void>, complete: () => void] {
  let complete = (): void => {};
  const list = new Promise<void>(resolve => (complete = resolve));
  return [list, complete];
}

test('actions wait for the last list, in their order', async () => {
  const pending = new PendingList();
  const done: string[] = [];
  const [first, completeFirst] = openList();
  const [second, completeSecond] = openList();
  pending.read(first);
  pending.add(() => done.push('a'));
  const end = new Promise<void>(resolve => {
    pending.add(() => {
      done.push('b');
      resolve();
    });
  });
  pending.read(second);
  completeFirst();
  await first;
  expect([pending.isReading, pending.hasWaiting, done]).toEqual([true, true, []]);
  completeSecond();
  await end;
  expect(done).toEqual(['a', 'b']);
});

test('an action may read another list, for which the next one waits', async () => {
  const pending = new PendingList();
  const [list, complete] = openList();
  const [other, completeOther] = openList();
  let isRead = false;
  pending.read(list);
  pending.add(() => pending.read(other));
  const end = new Promise<boolean>(resolve => pending.add(() => resolve(isRead)));
  complete();
  await list;
  isRead = true;
  completeOther();
  expect(await end).toBe(true);
});

test('a forgotten action never runs, and a failed list is over', async () => {
  const pending = new PendingList();
  const done: string[] = [];
  pending.read(new Promise(() => {}));
  pending.add(() => done.push('forgotten'));
  pending.forget();
  expect(pending.isReading).toBe(false);
  pending.read(Promise.reject(new Error('no list')));
  await new Promise<void>(resolve => pending.add(resolve));
  expect(done).toEqual([]);
});
