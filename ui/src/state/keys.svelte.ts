/**
 * The keyboard. Components register what their keys do while they are on the page, and the help lists exactly these.
 * A combination is one key, such as `?` or `mod+k`, or two in a row, such as `g r`.
 */
import { untrack } from 'svelte';

export interface KeyBinding {
  keys: string;
  /** The action, in the imperative. */
  title: string;
  group: string;
  run: () => void;
  /** Also works while a text is edited. */
  whileEditing?: boolean;
}

let bindings = $state.raw<readonly KeyBinding[]>([]);
let first = '';
let firstAt = 0;

/** The second key of a pair must follow within this time. */
const PAIR_MS = 1_000;

export const keyboard = {
  get bindings(): readonly KeyBinding[] {
    return bindings;
  },
  /** Returns a function that removes them, as effects want it. */
  register(added: readonly KeyBinding[]): () => void {
    // Effects register: they must not depend on what others have registered.
    bindings = [...untrack(() => bindings), ...added];
    return () => {
      bindings = bindings.filter(binding => !added.includes(binding));
    };
  },
};

/** Runs the binding of a key; the one that was registered last wins. */
export function handleKey(event: KeyboardEvent, now = Date.now()): void {
  if (event.defaultPrevented || event.isComposing || ['Shift', 'Control', 'Meta', 'Alt'].includes(event.key))
    return;
  const pressed = nameOf(event);
  if (/^(Enter| )$/.test(pressed) && isControl(event.target)) return;
  const pair = first && now - firstAt < PAIR_MS ? `${first} ${pressed}` : '';
  const isEditing = isEditable(event.target) || isInDialog(event.target);
  const fits = (keys: string): KeyBinding | undefined =>
    bindings.findLast(binding => binding.keys === keys && (binding.whileEditing || !isEditing));
  const binding = (pair && fits(pair)) || fits(pressed);
  first = isEditing ? '' : pressed;
  firstAt = now;
  if (!binding) return;
  first = '';
  event.preventDefault();
  binding.run();
}

/** `mod` is the command key on a Mac, and the control key elsewhere. */
export function nameOf(event: Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'altKey'>): string {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return `${event.ctrlKey || event.metaKey ? 'mod+' : ''}${event.altKey ? 'alt+' : ''}${key}`;
}

function isEditable(target: EventTarget | null): boolean {
  const element = target as HTMLElement | null;
  return Boolean(element?.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element?.tagName ?? ''));
}

/** Enter and space act on the button or link that has the focus. */
function isControl(target: EventTarget | null): boolean {
  return Boolean((target as Element | null)?.closest?.('a, button, summary'));
}

/** Keys of the page must not act while a dialog covers it. */
function isInDialog(target: EventTarget | null): boolean {
  return Boolean((target as Element | null)?.closest?.('dialog'));
}

/** The keys as they are printed on the keyboard. */
export function keyCaps(keys: string): string[] {
  const isMac = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? '');
  const caps: Record<string, string> = {
    mod: isMac ? '⌘' : 'Ctrl',
    alt: isMac ? '⌥' : 'Alt',
    ArrowDown: '↓',
    ArrowUp: '↑',
  };
  return keys.split(/[ +](?=.)/).map(key => caps[key] ?? (key.length === 1 ? key.toUpperCase() : key));
}
