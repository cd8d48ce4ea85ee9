/** Contexts of series, such as `{"subset":"val"}`. */

/**
 * The text of a context for columns. No context is empty; the API also writes it as an empty
 * object.
 */
export function plainContext(context: string): string {
  return context === '{}' ? '' : context;
}

/** Keys and values of a context; undefined if it cannot be read. */
function entriesOf(context: string): [key: string, value: string][] | undefined {
  try {
    const entries = Object.entries(JSON.parse(context || '{}') as Record<string, unknown>);
    return entries.map(([key, value]) => [
      key,
      typeof value === 'string' ? value : JSON.stringify(value),
    ]);
  } catch {
    // NaN and infinity are allowed in contexts, but not in JSON.
    return undefined;
  }
}

/** `{"subset":"val"}` as `val`; contexts of several keys with their names. */
export function contextTitle(context: string): string {
  const entries = entriesOf(context);
  return entries?.length === 1 ? (entries[0]?.[1] ?? '') : keyedTitle(context);
}

/** `{"layer":16}` as `layer=16`: without its key, such a number says nothing. */
export function keyedTitle(context: string): string {
  const entries = entriesOf(context);
  return entries ? entries.map(entry => entry.join('=')).join(' ') : context;
}

export function metricTitle(name: string, context: string): string {
  return `${name} ${contextTitle(context)}`.trimEnd();
}

/** Prefix of the names of metrics that the client itself logs, such as the load of the machine. */
export const SYSTEM_PREFIX = '__system__';

/** Whether a metric is a reading of the machine: of our client, or of scripts that log theirs as `system/…`. */
export function isSystemMetric(name: string): boolean {
  return name.startsWith(SYSTEM_PREFIX) || name.startsWith('system/');
}
