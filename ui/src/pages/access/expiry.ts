/** When a token expires. */
import { DAY, HOUR, milliseconds, relativeTime } from '../../format/time.ts';

/** Tokens that expire within this time are marked. */
const SOON_MS = 14 * DAY;

export interface Expiry {
  text: string;
  state: 'expired' | 'soon' | 'later';
}

/** `expiresUs` is undefined for a token that never expires. */
export function expiryOf(expiresUs: bigint | undefined, now: number): Expiry {
  if (expiresUs === undefined) return { text: 'never', state: 'later' };
  const ms = milliseconds(expiresUs);
  const left = ms - now;
  if (left <= 0) return { text: 'expired', state: 'expired' };
  if (left > SOON_MS) return { text: relativeTime(ms, now), state: 'later' };
  if (left < HOUR) return { text: 'within an hour', state: 'soon' };
  const text = left < DAY ? `in ${Math.floor(left / HOUR)} h` : `in ${Math.floor(left / DAY)} d`;
  return { text, state: 'soon' };
}
