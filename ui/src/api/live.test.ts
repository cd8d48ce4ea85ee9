import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterEach, expect, test, vi } from 'vitest';

import { WatchResponseSchema, type WatchResponse } from '../gen/matyan/runs/v1/runs_pb.ts';
import { Lease } from './leader.ts';
import { LiveRuns, type LiveDeps, type LiveMessage } from './live.ts';

/** Channels of several tabs: a message reaches all others, not its sender. */
class Browser {
  #receivers: { own: object; receive: (event: MessageEvent) => void }[] = [];
  #waiting: ((signal: AbortSignal) => Promise<void>)[] = [];
  #leading = new AbortController();
  opened: Uint8Array[] = [];
  send: (response: WatchResponse | Error) => void = () => {};

  tab(): { live: LiveRuns; seen: LiveMessage[] } {
    const own = {};
    const channel: LiveDeps['channel'] = {
      postMessage: message => {
        for (const { own: other, receive } of this.#receivers)
          if (other !== own) receive({ data: message } as MessageEvent);
      },
      addEventListener: ((_: string, receive: (event: MessageEvent) => void) => {
        this.#receivers.push({ own, receive });
      }) as never,
    };
    const live = new LiveRuns(() => ({
      channel,
      elect: lead => {
        this.#waiting.push(lead);
        if (this.#waiting.length === 1) void lead(this.#leading.signal);
      },
      watch: (resume, signal, onOpen) => this.#watch(resume, signal, onOpen),
      wait: async () => {},
    }));
    const seen: LiveMessage[] = [];
    live.subscribe(message => seen.push(message));
    return { live, seen };
  }

  /** Closes the leading tab; the next tab takes over. */
  closeLeader(): void {
    this.#leading.abort();
    this.#leading = new AbortController();
    this.#waiting.shift();
    void this.#waiting[0]?.(this.#leading.signal);
  }

  async *#watch(
    resume: Uint8Array,
    signal: AbortSignal,
    onOpen: () => void,
  ): AsyncGenerator<WatchResponse> {
    this.opened.push(resume);
    onOpen();
    while (!signal.aborted) {
      const next = await new Promise<WatchResponse | Error | undefined>(resolve => {
        this.send = resolve;
        signal.addEventListener('abort', () => resolve(undefined));
      });
      if (next instanceof Error) throw next;
      if (next) yield next;
    }
  }
}

const settled = (): Promise<void> => new Promise(resolve => setTimeout(resolve));

function response(runId: string, resume: number): WatchResponse {
  return create(WatchResponseSchema, {
    changes: [{ runId, data: true }],
    resume: Uint8Array.of(resume),
  });
}

const changed = (seen: LiveMessage[]): string[] =>
  seen.flatMap(message =>
    message.kind === 'changes' ? message.changes.map(({ runId }) => runId) : [],
  );

test('one stream serves all tabs, and survives the tab that reads it', async () => {
  const browser = new Browser();
  const first = browser.tab();
  const second = browser.tab();
  await settled();
  browser.send(response('a', 1));
  await settled();
  expect([changed(first.seen), changed(second.seen)]).toEqual([['a'], ['a']]);
  expect(browser.opened.length).toBe(1);
  browser.closeLeader();
  await settled();
  expect(browser.opened.at(-1)).toEqual(Uint8Array.of(1));
  browser.send(response('b', 2));
  await settled();
  expect(changed(second.seen)).toEqual(['a', 'b']);
});

afterEach(() => vi.unstubAllGlobals());

test('a listener that fails keeps no other from a change, and does not end the stream', async () => {
  const reported: unknown[] = [];
  vi.stubGlobal('reportError', (error: unknown) => reported.push(error));
  const browser = new Browser();
  const { live } = browser.tab();
  live.subscribe(({ kind }) => {
    if (kind === 'changes') throw new Error('refused');
  });
  const seen: LiveMessage[] = [];
  live.subscribe(message => seen.push(message));
  await settled();
  browser.send(response('a', 1));
  await settled();
  browser.send(response('b', 2));
  await settled();
  expect(changed(seen)).toEqual(['a', 'b']);
  expect(browser.opened.length).toBe(1);
  expect(reported).toEqual([new Error('refused'), new Error('refused')]);
});

test('a lost stream is reported and resumed', async () => {
  const browser = new Browser();
  const { seen } = browser.tab();
  await settled();
  expect(seen).toEqual([{ kind: 'state', state: 'live' }]);
  browser.send(response('a', 7));
  await settled();
  browser.send(new ConnectError('down', Code.Unavailable));
  await settled();
  expect(seen.filter(({ kind }) => kind === 'state')).toMatchObject([
    { state: 'live' },
    { state: 'lost' },
    { state: 'live' },
  ]);
  expect(browser.opened).toEqual([new Uint8Array(), Uint8Array.of(7)]);
});

test('an expired position makes pages read everything again', async () => {
  const browser = new Browser();
  const { seen } = browser.tab();
  await settled();
  browser.send(response('a', 7));
  await settled();
  browser.send(new ConnectError('expired', Code.OutOfRange));
  await settled();
  // The reset waits for the start of the next stream: changes before the start would be missed.
  expect(seen.slice(2)).toEqual([
    { kind: 'state', state: 'lost' },
    { kind: 'reset' },
    { kind: 'state', state: 'live' },
  ]);
  expect(browser.opened.at(-1)).toEqual(new Uint8Array());
});

test('a stream that ended before its first change makes pages read everything again', async () => {
  const browser = new Browser();
  const tabs = [browser.tab(), browser.tab()];
  await settled();
  expect(tabs[0]?.seen).toEqual([{ kind: 'state', state: 'live' }]);
  browser.send(new ConnectError('down', Code.Unavailable));
  await settled();
  for (const { seen } of tabs) expect(seen.at(-2)).toEqual({ kind: 'reset' });
  // The next tab continues without a position, too.
  browser.closeLeader();
  await settled();
  expect(tabs[1]?.seen.filter(({ kind }) => kind === 'reset').length).toBe(2);
});

test('a lease belongs to one tab until it expires or is released', () => {
  const items = new Map<string, string>();
  const storage = {
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => void items.set(key, value),
    removeItem: (key: string) => void items.delete(key),
  };
  const a = new Lease(storage, 'x');
  const b = new Lease(storage, 'x');
  expect([a.renew(0), b.renew(1_000), a.renew(2_000), b.renew(7_000)]).toEqual([
    true,
    false,
    true,
    false,
  ]);
  expect(b.renew(8_001)).toBe(true);
  a.release();
  expect(a.renew(9_000)).toBe(false);
  b.release();
  expect(a.renew(9_000)).toBe(true);
});
