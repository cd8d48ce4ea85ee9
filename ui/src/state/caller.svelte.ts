/**
 * The caller of this page, and what the roles and the token permit in its project. A
 * server without access control permits everything to everyone. A page that does not know its
 * caller yet shows everything as well: the server refuses what the caller may not do.
 */
import { Code } from '@connectrpc/connect';

import { apiError, statusOf } from '../api/errors.ts';
import {
  ANONYMOUS,
  hasRight,
  leaves,
  NO_LIMITS,
  type GrantedRole,
  type Right,
  type TokenLimits,
} from '../api/rights.ts';
import { signIn, signInUrl, type SignInReason } from '../api/sign_in.ts';
import { published } from '../api/published.ts';
import { projectName, serverPath } from '../api/transport.ts';
import { page } from './location.svelte.ts';

/** The reason of the error of a server without access control. */
const ACCESS_OFF = 'INVALID_REQUEST';

class Caller {
  access = $state<'unknown' | 'off' | 'on'>('unknown');
  /** Name of the principal; empty until it is known. */
  principal = $state('');
  roles = $state.raw<readonly GrantedRole[]>([]);
  /** The limits that the token puts on the roles. */
  limits = $state.raw<TokenLimits>(NO_LIMITS);
  failure = $state.raw<unknown>();
  /** Whether the token of the reader has ended while the page was open. */
  hasEnded = $state(false);
  #isReading = false;

  constructor() {
    signIn.onEnded = () => (this.hasEnded = true);
    // In another tab, the reader may have signed in as someone else.
    globalThis.document?.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible' && this.access === 'on') void this.reread();
    });
  }

  isAnonymous = $derived(this.access === 'on' && this.principal === ANONYMOUS);

  /** Whether the reader may send data to the project of the page, and read nothing. */
  onlySends = $derived(this.access === 'on' && this.#has('ingest') && !this.#has('read'));

  /** Whether a call that needs a right would be permitted. */
  may(right: Right): boolean {
    if (published) return right === 'read';
    return this.access !== 'on' || this.#has(right);
  }

  #has(right: Right): boolean {
    return hasRight(this.roles, right, projectName) && leaves(this.limits, right, projectName);
  }

  /** Reads the caller unless it is known, or is being read. */
  read = async (): Promise<void> => {
    if (this.access !== 'unknown' || this.#isReading || published) return;
    await this.reread();
  };

  /** Reads the caller again, after its roles may have changed. */
  reread = async (): Promise<void> => {
    this.#isReading = true;
    try {
      // Not a part of the code that every page waits for.
      const { readCaller } = await import('../api/access.ts');
      const { principal, roles, limits } = await readCaller();
      this.principal = principal;
      this.roles = roles;
      this.limits = limits;
      this.access = 'on';
      this.failure = undefined;
      this.hasEnded = false;
      signIn.setReader(this.isAnonymous ? 'anonymous' : 'signed-in');
    } catch (error) {
      if (apiError(error).reason === ACCESS_OFF) {
        this.access = 'off';
        signIn.setReader('unchecked');
      } else {
        this.failure = error;
        if (statusOf(error) === Code.Unauthenticated && this.access === 'unknown')
          signIn.leave(serverPath);
      }
    } finally {
      this.#isReading = false;
    }
  };
}

export const caller = new Caller();

/** The address at which the reader signs in, and returns to the open page. */
export function ownSignInUrl(reason?: SignInReason): string {
  // Reread when the page changes.
  void page.open;
  return signInUrl(serverPath, location, reason);
}
