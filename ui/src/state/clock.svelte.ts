/** The current time, for ages and durations on the page: one timer, which rests while the page is hidden. */
const TICK_MS = 1_000;

let now = $state(Date.now());
let timer: ReturnType<typeof setInterval> | undefined;

function update(): void {
  clearInterval(timer);
  if (document.hidden) return;
  now = Date.now();
  timer = setInterval(() => (now = Date.now()), TICK_MS);
}

if (globalThis.document) {
  document.addEventListener('visibilitychange', update);
  update();
}

export const clock = {
  /** Milliseconds since the Unix epoch, to the second. */
  get now(): number {
    return now;
  },
};
