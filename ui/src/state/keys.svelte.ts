/**
 * Commands of the components on the page, for keys and the palette: one key, such as `mod+k`, or
 * two in a row: `g r`.
 */
export interface Command {
  keys?: string;
  title: string;
  group: string;
  run: () => unknown;
  whileEditing?: boolean;
  /** The keys belong to the control that has the focus, and are only listed. */
  isLocal?: boolean;
  words?: string;
}

/**
 * Not a state: effects would depend on it, and their clean-ups would read the value from before
 * their run.
 */
let registered: readonly Command[] = [];
let commands = $state.raw(registered);
let first = '';
let firstAt = 0;

/** The second key of a pair must follow within this time. */
const PAIR_MS = 1_000;

export const keyboard = {
  get commands(): readonly Command[] {
    return commands;
  },
  /** Returns a function that removes the commands, as effects expect. */
  register(added: readonly Command[]): () => void {
    registered = [...registered, ...added];
    commands = registered;
    return () => {
      registered = registered.filter(command => !added.includes(command));
      commands = registered;
    };
  },
};

/**
 * Registers the commands of a group while a component is on the page. Call it while the component
 * is set up.
 */
export function useKeys(group: string, commands: () => Omit<Command, 'group'>[]): void {
  $effect(() => keyboard.register(commands().map(command => ({ ...command, group }))));
}

/** Runs the command of a key; the command that was registered last wins. */
export function handleKey(event: KeyboardEvent, now = Date.now()): void {
  if (
    event.defaultPrevented ||
    event.isComposing ||
    ['Shift', 'Control', 'Meta', 'Alt'].includes(event.key)
  )
    return;
  const pressed = nameOf(event);
  const isWithin = (names: string): boolean =>
    Boolean((event.target as Element | null)?.closest?.(names));
  // Both act on the button or link that has the focus.
  if (/^(Enter| )$/.test(pressed) && isWithin('a, button, summary')) return;
  const pair = first && now - firstAt < PAIR_MS ? `${first} ${pressed}` : '';
  // Keys of the page must not act while a dialog covers it.
  const isEditing = isWithin('input, textarea, select, dialog');
  const fits = (keys: string): Command | undefined =>
    commands.findLast(
      command => command.keys === keys && !command.isLocal && (command.whileEditing || !isEditing),
    );
  const command = (pair && fits(pair)) || fits(pressed);
  first = isEditing ? '' : pressed;
  firstAt = now;
  if (!command) return;
  first = '';
  event.preventDefault();
  command.run();
}

/** `mod` is the command key on a Mac, and the control key elsewhere. */
export function nameOf(
  event: Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'altKey'>,
): string {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return `${event.ctrlKey || event.metaKey ? 'mod+' : ''}${event.altKey ? 'alt+' : ''}${key}`;
}

export function keyCaps(keys: string): string[] {
  const isMac = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? '');
  const caps: Record<string, string> = {
    mod: isMac ? '⌘' : 'Ctrl',
    alt: isMac ? '⌥' : 'Alt',
    ArrowDown: '↓',
    ArrowUp: '↑',
    ArrowLeft: '←',
    ArrowRight: '→',
    Escape: 'Esc',
  };
  return keys
    .split(/[ +](?=.)/)
    .map(key => caps[key] ?? (key.length === 1 ? key.toUpperCase() : key));
}

const GENERAL = ['Everywhere', 'Pages'];

/**
 * Commands that contain all words of the text. Commands whose title starts with the text come
 * first, and then the commands of the page.
 */
export function matching(all: readonly Command[], text: string): Command[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = all.filter(({ title, group, words: more }) => {
    const haystack = `${title} ${group} ${more ?? ''}`.toLowerCase();
    return words.every(word => haystack.includes(word));
  });
  const begins = ({ title }: Command): number =>
    title.toLowerCase().startsWith(text.toLowerCase()) ? 0 : 1;
  const isGeneral = ({ group }: Command): number => Number(GENERAL.includes(group));
  return found.sort((a, b) => begins(a) - begins(b) || isGeneral(a) - isGeneral(b));
}
