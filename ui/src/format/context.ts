/** Contexts of series, such as `{"subset":"val"}`. */

/**
 * The text of a context for columns. No context is empty; the API also writes it as an empty
 * object.
 */
export function plainContext(context: string): string {
  return context === '{}' ? '' : context;
}

/** `{"subset":"val"}` as `val`; contexts of several keys with their names. */
export function contextTitle(context: string): string {
  if (plainContext(context) === '') return '';
  try {
    const entries = Object.entries(JSON.parse(context) as Record<string, unknown>);
    const values = entries.map(([, value]) =>
      typeof value === 'string' ? value : JSON.stringify(value),
    );
    if (entries.length === 1) return values[0] ?? '';
    return entries.map(([key], at) => `${key}=${values[at]}`).join(' ');
  } catch {
    // NaN and infinity are allowed in contexts, but not in JSON.
    return context;
  }
}

export function metricTitle(name: string, context: string): string {
  return `${name} ${contextTitle(context)}`.trimEnd();
}

/** Prefix of the names of metrics that the client itself logs, such as the load of the machine. */
export const SYSTEM_PREFIX = '__system__';
