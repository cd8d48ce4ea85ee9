/**
 * The state of a page in its URL, typed. A schema names the fields of a page, with a codec and a
 * default for each. Fields with their default are left out, unknown fields are dropped, and invalid
 * fields become their default, so that every URL opens a page and every state has exactly one URL.
 */
export interface Codec<T> {
  /** Returns undefined for invalid text. */
  read(text: string): T | undefined;
  write(value: T): string;
}

export interface Field<T> {
  codec: Codec<T>;
  fallback: T;
}

export type Schema = Record<string, Field<unknown>>;

/** The state that a schema describes. */
export type State<S> = { [K in keyof S]: S[K] extends Field<infer T> ? T : never };

export function field<T>(codec: Codec<T>, fallback: T): Field<T> {
  return { codec, fallback };
}

export const text: Codec<string> = { read: text => text, write: text => text };

export const number: Codec<number> = {
  read: text => (text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined),
  write: String,
};

export const flag: Codec<boolean> = {
  read: text => (text === '1' ? true : text === '0' ? false : undefined),
  write: value => (value ? '1' : '0'),
};

export function choice<const T extends string>(...values: T[]): Codec<T> {
  return { read: text => values.find(value => value === text), write: value => value };
}

/** A day, as a field for dates writes it, such as `2026-11-29`; or no day. */
export const day: Codec<string> = {
  read: text => (text === '' || isDay(text) ? text : undefined),
  write: text => text,
};

function isDay(text: string): boolean {
  const time = /^\d{4}-\d{2}-\d{2}$/.test(text) ? Date.parse(text) : NaN;
  // Some browsers take 30 February for a day in March.
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text);
}

/** Texts separated by commas; backslashes protect commas in them. A single empty text is none. */
export const list: Codec<string[]> = {
  read: text => {
    if (text === '') return [];
    const parts = text.match(/(?:\\.|[^,\\])*(?:,|$)/g) ?? [];
    // The last match is the empty text after the last value.
    const values = parts.slice(0, text.endsWith(',') && !text.endsWith('\\,') ? undefined : -1);
    return values.map(part => part.replace(/,$/, '').replace(/\\(.)/g, '$1'));
  },
  write: values => values.map(value => value.replace(/[\\,]/g, '\\$&')).join(','),
};

export function decode<S extends Schema>(schema: S, query: string): State<S> {
  const params = new URLSearchParams(query);
  const fields = Object.entries(schema).map(([name, { codec, fallback }]) => {
    const written = params.get(name);
    return [name, (written === null ? undefined : codec.read(written)) ?? fallback];
  });
  return Object.fromEntries(fields) as State<S>;
}

/**
 * Returns the query part of a URL, with its question mark; empty if every field has its default.
 */
export function encode<S extends Schema>(schema: S, state: Partial<State<S>>): string {
  const params = new URLSearchParams();
  for (const [name, { codec, fallback }] of Object.entries(schema)) {
    const value = state[name];
    if (value === undefined) continue;
    const written = codec.write(value);
    if (written !== codec.write(fallback)) params.set(name, written);
  }
  const query = params.toString();
  return query ? `?${query}` : '';
}

/** A path such as `/runs/:run`, whose parameters are single segments. */
export function matchPath(pattern: string, path: string): Record<string, string> | undefined {
  const wanted = pattern.split('/');
  const actual = path.replace(/(.)\/$/, '$1').split('/');
  if (wanted.length !== actual.length) return undefined;
  const params: Record<string, string> = {};
  for (const [at, segment] of wanted.entries()) {
    const value = decodeSegment(actual[at] as string);
    if (value === undefined) return undefined;
    if (segment.startsWith(':')) params[segment.slice(1)] = value;
    else if (segment !== value) return undefined;
  }
  return params;
}

export function fillPath(pattern: string, params: Record<string, string>): string {
  return pattern.replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(params[name] ?? ''));
}

function decodeSegment(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment);
  } catch {
    return undefined;
  }
}
