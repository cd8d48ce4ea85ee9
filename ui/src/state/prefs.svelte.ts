/**
 * Choices of a reader for this browser, kept in its local storage. Everything about a page is in
 * its URL instead.
 */
export type Theme = 'system' | 'light' | 'dark';

const KEY = 'matyan-prefs';
const systemIsDark = globalThis.matchMedia?.('(prefers-color-scheme: dark)');

const first = readPrefs();
let theme = $state<Theme>(first.theme);
let isFolded = $state(first.isFolded);
let systemDark = $state(systemIsDark?.matches ?? false);

systemIsDark?.addEventListener('change', event => (systemDark = event.matches));
// Another tab changed them.
globalThis.addEventListener?.('storage', event => {
  if ((event as StorageEvent).key !== KEY) return;
  const stored = readPrefs();
  isFolded = stored.isFolded;
  applyTheme(stored.theme);
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
    store();
  },
  /** Whether the navigation has icons only, which leaves more room to the page. */
  get isFolded(): boolean {
    return isFolded;
  },
  toggleFolded(): void {
    isFolded = !isFolded;
    store();
  },
};

function store(): void {
  try {
    localStorage.setItem(KEY, JSON.stringify({ theme, isFolded }));
  } catch {
    // A full or forbidden storage must not break the page; the choice lasts until it is left.
  }
}

/** All colors are written as `light-dark()`, so the color scheme of the page decides. */
export function applyTheme(next: Theme = theme): void {
  theme = next;
  document.documentElement.style.colorScheme = next === 'system' ? 'light dark' : next;
}

function readPrefs(): { theme: Theme; isFolded: boolean } {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    const { theme, isFolded } = (stored ?? {}) as { theme?: unknown; isFolded?: unknown };
    return {
      theme: theme === 'light' || theme === 'dark' ? theme : 'system',
      isFolded: isFolded === true,
    };
  } catch {
    return { theme: 'system', isFolded: false };
  }
}
