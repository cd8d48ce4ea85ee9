/** The keys of a chart that has the focus, for the list of all keys. */
import type { Command } from '../state/keys.svelte.ts';

const TITLES: Record<string, string> = {
  ArrowLeft: 'Move to the step before',
  ArrowRight: 'Move to the next step',
  '+': 'Zoom in',
  '-': 'Zoom out',
  Enter: 'Pin the values, or let them go',
  Escape: 'Let the values go, or reset the zoom',
};

/** From the list they act on the first chart of the page. */
export function chartKeys(): Omit<Command, 'group'>[] {
  return Object.entries(TITLES).map(([key, title]) => ({
    keys: key,
    title,
    isLocal: true,
    run: () => {
      const chart = document.querySelector<HTMLElement>('.chart [role=application]');
      chart?.focus();
      chart?.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    },
  }));
}
