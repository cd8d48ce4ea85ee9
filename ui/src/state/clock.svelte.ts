/** The current time, for ages and durations on the page: one timer, which browsers slow down in a hidden tab. */
const TICK_MS = 1_000;

class Clock {
  /** Milliseconds since the Unix epoch, to the second. */
  now = $state(Date.now());
}

export const clock = new Clock();
if (globalThis.document) setInterval(() => (clock.now = Date.now()), TICK_MS);
