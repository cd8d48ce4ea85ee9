import { untrack } from 'svelte';

/**
 * Runs something now and whenever `watch` changes, and aborts its signal before. Call it while a
 * component is set up.
 */
export function whenever(watch: () => unknown, run: (signal: AbortSignal) => unknown): void {
  $effect(() => {
    watch();
    const control = new AbortController();
    untrack(() => run(control.signal));
    return () => control.abort();
  });
}
