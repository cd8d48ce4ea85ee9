/**
 * Elects one tab of a browser. Web Locks elect a tab without any traffic, but exist only on secure
 * origins. A server in the local network is often opened over plain HTTP: there, the tabs take
 * turns in renewing a lease in the local storage.
 */

const LEASE_MS = 6_000;
const RENEWAL_MS = 2_000;

/** Calls `lead` once this tab is elected. The signal is aborted if another tab has to take over. */
export function elect(name: string, lead: (signal: AbortSignal) => Promise<void>): void {
  const closed = new AbortController();
  globalThis.addEventListener('pagehide', () => closed.abort());
  // A page that comes back from the back-forward cache rejoins the election.
  globalThis.addEventListener('pageshow', event => {
    if ((event as PageTransitionEvent).persisted) elect(name, lead);
  });
  if (navigator.locks) {
    const options = { signal: closed.signal };
    navigator.locks
      .request(name, options, () => lead(closed.signal))
      .catch(() => {
        // The page was left before its turn came.
      });
  } else holdLease(new Lease(localStorage, name), closed.signal, lead);
}

function holdLease(
  lease: Lease,
  closed: AbortSignal,
  lead: (signal: AbortSignal) => Promise<void>,
): void {
  let term: AbortController | undefined;
  const renew = (): void => {
    if (!lease.renew(Date.now())) {
      term?.abort();
      term = undefined;
    } else if (!term) {
      term = new AbortController();
      void lead(term.signal);
    }
  };
  const timer = setInterval(renew, RENEWAL_MS);
  closed.addEventListener('abort', () => {
    clearInterval(timer);
    term?.abort();
    lease.release();
  });
  renew();
}

/**
 * A lease that one tab holds at a time. If two tabs start in the same instant, both may hold the
 * lease until it is renewed.
 */
export class Lease {
  readonly #owner = Math.random().toString(36).slice(2);

  constructor(
    readonly storage: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>,
    readonly name: string,
  ) {}

  /** Returns whether this tab holds the lease from now on. */
  renew(now: number): boolean {
    const [owner, until] = (this.storage.getItem(this.name) ?? '').split(' ');
    if (owner !== this.#owner && Number(until) > now) return false;
    this.storage.setItem(this.name, `${this.#owner} ${now + LEASE_MS}`);
    return true;
  }

  release(): void {
    if (this.storage.getItem(this.name)?.startsWith(`${this.#owner} `))
      this.storage.removeItem(this.name);
  }
}
