/**
 * The way to the page on which a reader signs in. The server redirects to it when a document is
 * opened; a document that is already open finds out from a call that fails, for example when the
 * session of the reader has ended.
 */

/** Why a reader is on the sign-in page. It selects a text of that page. */
export type SignInReason = 'ended';

/** The address of the sign-in page, which returns to `next`. */
export function signInUrl(
  serverPath: string,
  next: Pick<Location, 'pathname' | 'search' | 'hash'>,
  reason?: SignInReason,
): string {
  // The secret of an invitation stays out of addresses that are sent to servers.
  const hash = /^#mt[kl]_/.test(next.hash) ? '' : next.hash;
  const why = reason ? `&reason=${reason}` : '';
  return `${serverPath}sign-in?next=${encodeURIComponent(next.pathname + next.search + hash)}${why}`;
}

/**
 * The reader of the page. Calls of an anonymous reader fail in the same way if they need a right
 * that only others have: the reader may go on without them. If access control is off, a proxy has
 * refused the call, and the server has nothing to sign in to.
 */
export type Reader = 'unknown' | 'signed-in' | 'anonymous' | 'unchecked';

export class SignIn {
  #reader: Reader = 'unknown';
  /** Path of the server of a call that failed before the reader was known. */
  #failedAt: string | undefined;
  #isLeaving = false;
  /** Called when the session of a reader has ended, who may have written something on the page. */
  onEnded = (): void => {};

  constructor(readonly browser: () => Pick<typeof globalThis, 'location' | 'addEventListener'>) {}

  /** Notes that a call failed because no one is signed in. */
  onRefused(serverPath: string): void {
    if (this.#reader === 'signed-in') this.onEnded();
    else if (this.#reader === 'unknown') this.#failedAt = serverPath;
  }

  setReader(reader: Reader): void {
    this.#reader = reader;
    const failedAt = this.#failedAt;
    this.#failedAt = undefined;
    if (failedAt !== undefined) this.onRefused(failedAt);
  }

  /** Leaves for the sign-in page, from a page that shows nothing yet. */
  leave(serverPath: string): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    const { location, addEventListener } = this.browser();
    // The back button may return to this document, and then its calls may fail again.
    addEventListener('pageshow', ({ persisted }) => {
      if (persisted) this.#isLeaving = false;
    });
    location.assign(signInUrl(serverPath, location, 'ended'));
  }
}

export const signIn = new SignIn(() => globalThis);
