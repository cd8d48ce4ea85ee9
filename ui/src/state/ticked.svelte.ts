/**
 * The runs with a checked box, in this tab until it is closed. They are not in the URL, which may
 * have any number of them otherwise.
 */
import { projectName } from '../api/transport.ts';

const KEY = `matyan-ticked ${projectName}`.trimEnd();

class Ticked {
  #ids = $state.raw<readonly string[]>(read());

  get ids(): readonly string[] {
    return this.#ids;
  }

  set ids(next: readonly string[]) {
    this.#ids = next;
    try {
      sessionStorage.setItem(KEY, JSON.stringify(next));
    } catch {
      // A full or forbidden storage must not break the page; the boxes last until it is left.
    }
  }
}

export const ticked = new Ticked();

function read(): string[] {
  try {
    const stored: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? '[]');
    return Array.isArray(stored) ? stored.filter(one => typeof one === 'string') : [];
  } catch {
    return [];
  }
}
