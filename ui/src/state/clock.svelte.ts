/**
 * The current time, for ages and durations on the page: one timer, which browsers slow down in a
 * hidden tab.
 */
const TICK_MS = 1_000;

/** `now` is in milliseconds since the Unix epoch, to the second. */
export const clock = $state({ now: Date.now() });
if (globalThis.document) setInterval(() => (clock.now = Date.now()), TICK_MS);
