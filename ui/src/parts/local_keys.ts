/** The keys of a control that has the focus. */
import type { Command } from '../state/keys.svelte.ts';

/** Directions of keys, with y upwards. */
export const ARROWS: Record<string, [x: number, y: number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};

/** Whether a key is the browser's own, such as Alt and an arrow to go back, or Ctrl and + to zoom. */
export function hasModifier(event: Pick<KeyboardEvent, 'ctrlKey' | 'metaKey' | 'altKey'>): boolean {
  return event.ctrlKey || event.metaKey || event.altKey;
}

export const CHART_KEYS = {
  ArrowLeft: 'Move to the step before',
  ArrowRight: 'Move to the next step',
  '+': 'Zoom in',
  '-': 'Zoom out',
  Enter: 'Pin the values, or let them go',
  Escape: 'Let the values go, or reset the zoom',
};

export const POINT_KEYS = {
  ArrowLeft: 'Turn to the left',
  ArrowRight: 'Turn to the right',
  ArrowUp: 'Tilt forward',
  ArrowDown: 'Tilt back',
  '+': 'Nearer',
  '-': 'Farther',
  Escape: 'The first view again',
};

/** Entries of the list of all keys, from which they act on the first such control of the page. */
export function localKeys(
  selector: string,
  titles: Record<string, string>,
): Omit<Command, 'group'>[] {
  return Object.entries(titles).map(([key, title]) => ({
    keys: key,
    title,
    isLocal: true,
    run: () => {
      const control = document.querySelector<HTMLElement | SVGElement>(selector);
      control?.focus();
      control?.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    },
  }));
}
