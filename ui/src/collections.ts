/** `Map.groupBy`, which Node.js 20 lacks: groups in the order of their first member. */
export function groupBy<K, T>(all: readonly T[], keyOf: (one: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const one of all) {
    const group = groups.get(keyOf(one));
    if (group) group.push(one);
    else groups.set(keyOf(one), [one]);
  }
  return groups;
}

/** The members without `member`, or with `member` at the end if they lack it. */
export function toggled<T>(all: Iterable<T>, one: T): Set<T> {
  const next = new Set(all);
  if (!next.delete(one)) next.add(one);
  return next;
}

/** Whether two maps have the same keys with the same values, in any order. */
export function isEqualMap<K, V>(a: ReadonlyMap<K, V>, b: ReadonlyMap<K, V>): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.has(key) && b.get(key) === value);
}

/** Compares names by their letters, and numbers in them by value. */
export const byName = new Intl.Collator('en', { numeric: true }).compare;

/** Whether a text contains the text that a reader searches for, in any case. */
export function hasText(text: string, wanted: string): boolean {
  return text.toLowerCase().includes(wanted.trim().toLowerCase());
}
