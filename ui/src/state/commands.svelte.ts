/** Actions of the command palette. Pages register theirs while they are open. */
import { untrack } from 'svelte';

export interface Command {
  title: string;
  group: string;
  run: () => void;
  /** Shown at the end of the line. */
  keys?: string;
  /** More words to find it by. */
  words?: string;
}

let registered = $state.raw<readonly Command[]>([]);

export const commands = {
  get all(): readonly Command[] {
    return registered;
  },
  register(added: readonly Command[]): () => void {
    // Effects register: they must not depend on what others have registered.
    registered = [...untrack(() => registered), ...added];
    return () => {
      registered = registered.filter(command => !added.includes(command));
    };
  },
};

/** Commands that contain all words of the text; those whose title begins with it come first. */
export function matching(all: readonly Command[], text: string): Command[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = all.filter(({ title, group, words: more }) => {
    const haystack = `${title} ${group} ${more ?? ''}`.toLowerCase();
    return words.every(word => haystack.includes(word));
  });
  const begins = ({ title }: Command): number => (title.toLowerCase().startsWith(text.toLowerCase()) ? 0 : 1);
  return found.sort((a, b) => begins(a) - begins(b));
}
