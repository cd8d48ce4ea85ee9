/**
 * Changes of runs as they happen. A browser opens six connections per host, so all its tabs share
 * one stream: one tab reads the stream and sends its messages to the others. When that tab is
 * closed, another tab continues from the same position.
 */
import { Code, ConnectError } from '@connectrpc/connect';

import { RunService, type RunChange, type WatchResponse } from '../gen/matyan/runs/v1/runs_pb.ts';
import { elect } from './leader.ts';
import { client, rootPath } from './transport.ts';

export type LiveState = 'connecting' | 'live' | 'lost';

export type LiveMessage =
  | { kind: 'changes'; changes: RunChange[]; resume: Uint8Array }
  | { kind: 'state'; state: LiveState }
  /** Changes were missed, so pages must read everything. */
  | { kind: 'reset' }
  /** A new tab asks for the state. */
  | { kind: 'hello' };

/** The parts of a browser and a server that `LiveRuns` needs, replaced in tests. */
export interface LiveDeps {
  channel: Pick<BroadcastChannel, 'postMessage' | 'addEventListener'>;
  /** Calls `lead` once this tab is elected to read. */
  elect: (lead: (signal: AbortSignal) => Promise<void>) => void;
  /**
   * Streams changes. Calls `onOpen` when the server has accepted the call, long before the first
   * change.
   */
  watch: (
    resume: Uint8Array,
    signal: AbortSignal,
    onOpen: () => void,
  ) => AsyncIterable<WatchResponse>;
  wait: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** Keeps a page that redraws on each change from doing little else. */
const SETTLE_MS = 150;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;

export class LiveRuns {
  #listeners = new Set<(message: LiveMessage) => void>();
  #state: LiveState = 'connecting';
  #resume = new Uint8Array();
  #leads = false;
  #wasLive = false;
  #started = false;

  constructor(readonly deps: () => LiveDeps) {}

  subscribe(listener: (message: LiveMessage) => void): () => void {
    this.#listeners.add(listener);
    if (!this.#started) this.#start();
    return () => this.#listeners.delete(listener);
  }

  #start(): void {
    this.#started = true;
    const deps = this.deps();
    deps.channel.addEventListener('message', event =>
      this.#receive((event as MessageEvent<LiveMessage>).data, deps),
    );
    deps.channel.postMessage({ kind: 'hello' });
    deps.elect(signal => this.#lead(deps, signal));
  }

  #receive(message: LiveMessage, deps: LiveDeps): void {
    if (message.kind === 'hello') {
      if (this.#leads) deps.channel.postMessage({ kind: 'state', state: this.#state });
      return;
    }
    if (message.kind === 'state') this.#state = message.state;
    this.#wasLive ||= this.#state === 'live';
    // The next tab to lead continues where the last message ended.
    if (message.kind === 'changes') this.#resume = new Uint8Array(message.resume);
    if (message.kind === 'reset') this.#resume = new Uint8Array();
    for (const listener of this.#listeners) tell(listener, message);
  }

  #send(message: LiveMessage, deps: LiveDeps): void {
    deps.channel.postMessage(message);
    this.#receive(message, deps);
  }

  async #lead(deps: LiveDeps, signal: AbortSignal): Promise<void> {
    this.#leads = true;
    let retryMs = FIRST_RETRY_MS;
    while (!signal.aborted) {
      try {
        const onOpen = (): void => {
          retryMs = FIRST_RETRY_MS;
          // Changes between the previous stream and this stream are not known.
          if (this.#wasLive && this.#resume.length === 0) this.#send({ kind: 'reset' }, deps);
          this.#send({ kind: 'state', state: 'live' }, deps);
        };
        for await (const response of deps.watch(this.#resume, signal, onOpen)) {
          this.#resume = new Uint8Array(response.resume);
          if (response.changes.length === 0) continue;
          this.#send({ kind: 'changes', changes: response.changes, resume: this.#resume }, deps);
        }
      } catch (error) {
        const isExpired = error instanceof ConnectError && error.code === Code.OutOfRange;
        if (isExpired) this.#resume = new Uint8Array();
      }
      if (signal.aborted) break;
      this.#send({ kind: 'state', state: 'lost' }, deps);
      await deps.wait(retryMs, signal);
      retryMs = Math.min(2 * retryMs, LAST_RETRY_MS);
    }
    this.#leads = false;
  }
}

/** A listener that fails keeps no other from the message, and does not end the stream. */
function tell(listener: (message: LiveMessage) => void, message: LiveMessage): void {
  try {
    listener(message);
  } catch (error) {
    reportError(error);
  }
}

function wait(ms: number, signal: AbortSignal): Promise<void> {
  const end = AbortSignal.any([signal, AbortSignal.timeout(ms)]);
  return new Promise(resolve => {
    end.addEventListener('abort', () => resolve());
    // There is no point in waiting once the network is back.
    globalThis.addEventListener('online', () => resolve(), { signal: end });
  });
}

/** Tabs of another project have their own stream. */
const NAME = `matyan-live ${rootPath}`;

export const liveRuns = new LiveRuns(() => ({
  channel: new BroadcastChannel(NAME),
  elect: lead => elect(NAME, lead),
  watch: (resume, signal, onOpen) =>
    client(RunService).watch(
      { parts: { props: true }, progress: true, resume, settleMs: SETTLE_MS },
      { signal, onHeader: onOpen },
    ),
  wait,
}));
