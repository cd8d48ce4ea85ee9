/**
 * Choices of a reader for this browser, kept in its local storage. Everything about a page is in
 * its URL instead.
 */
export type Theme = 'system' | 'light' | 'dark';

const KEY = 'matyan-prefs';
const systemIsDark = globalThis.matchMedia?.('(prefers-color-scheme: dark)');

let theme = $state<Theme>(readTheme());
let systemDark = $state(systemIsDark?.matches ?? false);

systemIsDark?.addEventListener('change', event => (systemDark = event.matches));
// Another tab changed them.
globalThis.addEventListener?.('storage', event => {
  if ((event as StorageEvent).key === KEY) applyTheme(readTheme());
});

export const prefs = {
  get theme(): Theme {
    return theme;
  },
  get isDark(): boolean {
    return theme === 'system' ? systemDark : theme === 'dark';
  },
  setTheme(next: Theme): void {
    applyTheme(next);
    try {
      localStorage.setItem(KEY, JSON.stringify({ theme: next }));
    } catch {
      // A full or forbidden storage must not break the page; the choice lasts until it is left.
    }
  },
};

/** All colors are written as `light-dark()`, so the color scheme of the page decides. */
export function applyTheme(next: Theme = theme): void {
  theme = next;
  document.documentElement.style.colorScheme = next === 'system' ? 'light dark' : next;
}

function readTheme(): Theme {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    const theme = (stored as { theme?: unknown } | null)?.theme;
    return theme === 'light' || theme === 'dark' ? theme : 'system';
  } catch {
    return 'system';
  }
}
