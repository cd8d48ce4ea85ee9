/**
 * At most three reads at a time. Browsers open six HTTP/1.1 connections per host over all tabs, so
 * a page that requested everything at the same time would delay the other tabs, and hidden charts
 * would delay visible ones.
 */

/** Lower numbers are read first. Reads of the same urgency keep their order. */
export const enum Urgency {
  /** The result is in view, or the reader has just asked for it. */
  Visible = 0,
  /** Newer values of something in view. */
  Refresh = 1,
}

interface WaitingRead {
  urgency: Urgency;
  start: () => void;
}

export class ReadQueue {
  #waiting: WaitingRead[] = [];
  #running = 0;

  constructor(readonly limit = 3) {}

  /**
   * Runs `read` when its turn comes. An abort before that turn removes the read from the queue; a
   * later abort is up to `read`.
   */
  run<T>(urgency: Urgency, signal: AbortSignal | undefined, read: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (signal?.aborted) return reject(signal?.reason);
      const onAbort = (): void => {
        this.#waiting = this.#waiting.filter(other => other !== entry);
        reject(signal?.reason);
      };
      const entry: WaitingRead = {
        urgency,
        start: () => {
          signal?.removeEventListener('abort', onAbort);
          this.#running += 1;
          // A read that throws before its first wait is a failed read too.
          void Promise.resolve()
            .then(read)
            .then(resolve, reject)
            .finally(() => {
              this.#running -= 1;
              this.#next();
            });
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(entry);
      // If several reads are requested at the same moment, the most urgent reads start.
      queueMicrotask(() => this.#next());
    });
  }

  #next(): void {
    while (this.#running < this.limit && this.#waiting.length > 0) {
      const first = this.#waiting.reduce((best, one) => (one.urgency < best.urgency ? one : best));
      this.#waiting.splice(this.#waiting.indexOf(first), 1);
      first.start();
    }
  }
}

export const reads = new ReadQueue();
