import { untrack } from 'svelte';

/**
 * Runs something now, and whenever a value changes that `watch` reads. The signal of a run is aborted before the next
 * one, and when the component ends. Call it while the component is set up.
 */
export function whenever(watch: () => unknown, run: (signal: AbortSignal) => unknown): void {
  $effect(() => {
    watch();
    const control = new AbortController();
    untrack(() => run(control.signal));
    return () => control.abort();
  });
}
