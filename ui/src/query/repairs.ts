/**
 * Corrections of a query whose names no run has: `loss < 1` means a metric, and the path
 * `run.hparam.optimizer.lr` is nearly the path of a param. Whole paths are compared, because the mistake
 * may be in any part of them.
 */
import { isProperty, metricText, paramText } from './conditions.ts';
import { OBJECTS } from './words.ts';

/** The names of the project that may be meant. */
export interface KnownNames {
  params: readonly (readonly string[])[];
  metrics: readonly string[];
}

/** A part of a query that nothing has the name of. */
interface Reference {
  from: number;
  to: number;
  /** The segments of a path; a name without `run` is a path of one segment. */
  path: string[];
  isBare: boolean;
}

const MAX_REPAIRS = 4;
/** The share of a path that may be mistyped. */
const MAX_DISTANCE = 0.45;
/** Names that are much less similar than the best are noise. */
const MAX_WORSE = 0.15;
const TEXT = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g;
/** A name, also such as `val/loss`, that is compared with something. */
const BARE = /(?<![\w.\])/])([A-Za-z_]\w*(?:\/[A-Za-z_]\w*)*)(?=\s*(?:[<>]|[=!]=))/g;
const PATH = /\brun((?:\.[A-Za-z_]\w*)+)(?!\w|\s*\()/g;
const KNOWN = [...OBJECTS, 'datetime', 'None', 'True', 'False'];

/** The names in a query that may be mistakes: names of params, and names without an object. */
export function referencesOf(query: string): Reference[] {
  // Words in quoted texts are no names: spaces replace them, and other names keep their places.
  const code = query.replace(TEXT, text => `"${' '.repeat(Math.max(0, text.length - 2))}"`);
  const bare = [...code.matchAll(BARE)].map(({ 1: name = '', index }) => ({
    from: index,
    to: index + name.length,
    path: [name],
    isBare: true,
  }));
  const paths = [...code.matchAll(PATH)].map(({ 0: text, 1: path = '', index }) => ({
    from: index,
    to: index + text.length,
    path: path.slice(1).split('.'),
    isBare: false,
  }));
  return [
    ...bare.filter(({ path }) => !KNOWN.includes(path[0] ?? '')),
    ...paths.filter(({ path }) => !isProperty(path[0] ?? '')),
  ];
}

/** Whole queries with one name corrected, the most similar name first. */
export function repairsOf(query: string, known: KnownNames): string[] {
  const repairs = referencesOf(query).flatMap(reference => {
    const { from, to, path, isBare } = reference;
    const written = path.join('.');
    if (known.params.some(segments => segments.join('.').startsWith(written)) && !isBare) return [];
    const params = known.params.map(segments => ({
      text: paramText(segments),
      distance: isBare
        ? nameDistance(written, segments.at(-1) ?? '')
        : distanceOf(written, segments.join('.')),
    }));
    const metrics = known.metrics.map(name => ({
      text: `${metricText(name, '')}.last`,
      distance: nameDistance(path.at(-1) ?? '', name),
    }));
    // A name without an object is a result more often than a param.
    const all = [...(isBare ? metrics : []), ...params];
    const best = Math.min(...all.map(({ distance }) => distance));
    return all
      .filter(({ distance }) => distance <= Math.min(MAX_DISTANCE, best + MAX_WORSE))
      .sort((a, b) => a.distance - b.distance)
      .map(({ text }) => query.slice(0, from) + text + query.slice(to));
  });
  return [...new Set(repairs)].slice(0, MAX_REPAIRS);
}

/** From 0 for equal names; the last part of a name, as in `val/loss`, is nearly as good. */
function nameDistance(written: string, name: string): number {
  const last = name.split(/[/.]/).at(-1) ?? '';
  return Math.min(distanceOf(written, name), 0.05 + distanceOf(written, last));
}

/** The number of typing errors between two texts, relative to the length of the longer one. */
export function distanceOf(a: string, b: string): number {
  const left = [...a.toLowerCase()];
  const right = [...b.toLowerCase()];
  let row = Array.from({ length: right.length + 1 }, (_, at) => at);
  for (const [at, sign] of left.entries()) {
    const next = [at + 1];
    for (const [place, other] of right.entries())
      next.push(
        Math.min(
          (row[place] ?? 0) + (sign === other ? 0 : 1),
          (row[place + 1] ?? 0) + 1,
          (next[place] ?? 0) + 1,
        ),
      );
    row = next;
  }
  return (row.at(-1) ?? 0) / Math.max(left.length, right.length, 1);
}
