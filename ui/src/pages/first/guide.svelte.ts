/** Whether a reader has had enough of the guide to a first run. */
import { projectName } from '../../api/transport.ts';

const KEY = `matyan-guide-hidden ${projectName}`.trimEnd();

class Guide {
  isHidden = $state(isStored());
  /** The guide opens one run, and leaves the reader alone after that. */
  hasOpened = false;

  hide = (): void => {
    this.isHidden = true;
    try {
      localStorage.setItem(KEY, '1');
    } catch {
      // A full or forbidden storage must not break the page; the guide is back after a reload.
    }
  };

  show = (): void => {
    this.isHidden = false;
    try {
      localStorage.removeItem(KEY);
    } catch {
      // Without a storage, nothing was kept.
    }
  };
}

export const guide = new Guide();

function isStored(): boolean {
  try {
    return localStorage.getItem(KEY) !== null;
  } catch {
    return false;
  }
}
