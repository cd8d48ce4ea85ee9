/** A value from the server that a component shows, with the failure of its last attempt. */
import { isAbort } from '../api/errors.ts';

/** Results that take long to read are reread more rarely. */
const PAUSE_FACTOR = 10;

interface ReadingOptions<T> {
  /** Least time between the end of a read and a refresh. */
  pauseMs?: number;
  /** A change of the returned value is a refresh. */
  version?: () => unknown;
  /** The pause of a refresh, in durations of the read before it. */
  pauseFactor?: number;
  /** Rereads parts of `value`, such as some of its runs, and returns it with them. */
  patch?: (value: T, ids: ReadonlySet<string>, signal: AbortSignal) => Promise<T>;
}

/**
 * Reads once, and rereads when state changes that `read` uses before it waits. The old value stays
 * until the new value arrives. Create it while a component is set up; it ends with the component.
 */
export class Reading<T> {
  value = $state.raw<T>();
  failure = $state.raw<unknown>();
  #attempt = $state(0);
  #isReading = false;
  #isStale = false;
  #nextAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #signal = new AbortController().signal;
  /** Parts to reread. */
  #ids = new Set<string>();

  constructor(
    read: (signal: AbortSignal) => Promise<T>,
    readonly options: ReadingOptions<T> = {},
  ) {
    let known = options.version?.();
    $effect(() => {
      void this.#attempt;
      const control = new AbortController();
      this.#signal = control.signal;
      this.#ids = new Set();
      void this.#read(read(control.signal), control.signal);
      return () => {
        control.abort();
        clearTimeout(this.#timer);
        this.#timer = undefined;
      };
    });
    $effect(() => {
      const next = options.version?.();
      if (next !== known) this.refresh();
      known = next;
    });
  }

  retry = (): void => {
    this.#attempt += 1;
  };

  /** Rereads after a pause, and not before the current attempt has ended. */
  refresh = (): void => {
    this.#isStale = true;
    this.#schedule();
  };

  /** Rereads one part, if `options` have a patch. */
  refreshPart = (id: string): void => {
    this.#ids.add(id);
    this.#schedule();
  };

  #again = (): void => {
    this.#timer = undefined;
    const { value, failure, options } = this;
    // After a failure, it is not known which parts are old.
    if (this.#isStale || failure || value === undefined || !options.patch) return this.retry();
    const ids = this.#ids;
    this.#ids = new Set();
    void this.#read(options.patch(value, ids, this.#signal), this.#signal);
  };

  async #read(result: Promise<T>, signal: AbortSignal): Promise<void> {
    const start = Date.now();
    this.#isReading = true;
    this.#isStale = false;
    try {
      const value = await result;
      if (signal.aborted) return;
      this.value = value;
      this.failure = undefined;
    } catch (error) {
      if (signal.aborted) return;
      if (!isAbort(error)) this.failure = error;
    }
    this.#isReading = false;
    const { pauseMs = 0, pauseFactor = PAUSE_FACTOR } = this.options;
    this.#nextAt = Date.now() + Math.max(pauseMs, pauseFactor * (Date.now() - start));
    this.#schedule();
  }

  #schedule(): void {
    if ((!this.#isStale && this.#ids.size === 0) || this.#isReading) return;
    this.#timer ??= setTimeout(this.#again, Math.max(0, this.#nextAt - Date.now()));
  }
}
