/** One call for all charts that come into view at the same moment. */
import type { Urgency } from './read_queue.ts';
import { queued } from './transport.ts';

export interface JoinedLoad {
  urgency: Urgency;
  signal: AbortSignal;
  /** The series that have not arrived, by their places in the chart. */
  missing: ReadonlyMap<number, unknown>;
}

interface JoinedRead<Load> {
  all: Load[];
  end: Promise<void>;
}

/**
 * A read with this many series takes no more loads. The upper charts of a page would otherwise wait
 * for the lower ones.
 */
const MAX_JOINED_SERIES = 50;

export class JoinedReads<Load extends JoinedLoad> {
  /** Reads that have not started, keyed by the urgency and the kind of their loads. */
  readonly #open = new Map<string, JoinedRead<Load>>();

  /** `call` reads the missing series of all loads, and removes each series that has arrived. */
  constructor(
    readonly where: string,
    readonly call: (all: readonly Load[], signal: AbortSignal) => Promise<void>,
  ) {}

  /** Joins loads of one `kind` only. */
  async read(load: Load, kind = ''): Promise<void> {
    const key = `${load.urgency} ${kind}`;
    const known = this.#open.get(key);
    const size = known?.all.reduce((sum, { missing }) => sum + missing.size, 0) ?? Infinity;
    const { all, end } = known && size < MAX_JOINED_SERIES ? known : this.#start(key);
    all.push(load);
    try {
      await end;
    } catch (error) {
      load.signal.throwIfAborted();
      if (all.length === 1) throw error;
      // The call may have failed because of the others.
      if (load.missing.size > 0) await this.#begin([load]);
    }
  }

  #start(key: string): JoinedRead<Load> {
    const all: Load[] = [];
    const end = new Promise<void>(resolve => setTimeout(resolve)).then(() => {
      if (this.#open.get(key)?.all === all) this.#open.delete(key);
      return this.#begin(all);
    });
    this.#open.set(key, { all, end });
    return { all, end };
  }

  /** Ends early once all loads are aborted. */
  async #begin(all: readonly Load[]): Promise<void> {
    const control = new AbortController();
    const wanted = (): Load[] => all.filter(({ signal }) => !signal.aborted);
    const leave = (): void => {
      if (wanted().length === 0) control.abort();
    };
    for (const { signal } of all) signal.addEventListener('abort', leave, { once: true });
    leave();
    const { urgency } = all[0] as Load;
    await queued(this.where, urgency, control.signal, () => this.call(wanted(), control.signal));
  }
}
