/**
 * The clock of the server, as far as answers tell it: their header `Date` counts whole seconds. The
 * clock of this machine may be wrong by hours, and counts only how long ago an answer came.
 */

/** The header leaves out the part of a second. */
const ROUNDING_MS = 500;

/** By how much the clock of the server is ahead of the clock of this machine. */
let aheadMs: number | undefined;

export const serverClock = {
  /** Takes over the time at which an answer was made. */
  note(date: string | null, now = Date.now()): void {
    const ms = Date.parse(date ?? '');
    if (!Number.isNaN(ms)) aheadMs = ms + ROUNDING_MS - now;
  },
  /** The time of the server when this machine shows `now`; undefined before the first answer. */
  at(now: number): number | undefined {
    return aheadMs === undefined ? undefined : now + aheadMs;
  },
};
