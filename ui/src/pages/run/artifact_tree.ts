/** Artifacts as a tree of folders, and the form in which a file can be shown. */
import { byName } from '../../collections.ts';
import type { Artifact } from '../../gen/matyan/artifacts/v1/artifact_pb.ts';

export interface TreeRow {
  path: string;
  name: string;
  depth: number;
  artifact?: Artifact;
  size: number | undefined;
}

/** Bytes of all files together; undefined if the size of one file is unknown. */
export function totalSize(all: readonly Artifact[]): number | undefined {
  if (all.some(({ size }) => size === undefined)) return undefined;
  return all.reduce((sum, { size }) => sum + Number(size), 0);
}

/** Folders first, then files, both by name; the content of closed folders is left out. */
export function treeRows(
  all: readonly Artifact[],
  closed: ReadonlySet<string>,
  prefix = '',
): TreeRow[] {
  const depth = prefix.split('/').length - 1;
  const folders = new Map<string, Artifact[]>();
  const files: TreeRow[] = [];
  for (const artifact of all) {
    const rest = artifact.path.slice(prefix.length);
    const [name = '', ...inner] = rest.split('/');
    if (inner.length === 0)
      files.push({ path: artifact.path, name, depth, artifact, size: totalSize([artifact]) });
    else folders.set(name, [...(folders.get(name) ?? []), artifact]);
  }
  const rows = [...folders]
    .sort(([a], [b]) => byName(a, b))
    .flatMap(([name, inside]) => {
      const path = `${prefix}${name}/`;
      const own = { path, name, depth, size: totalSize(inside) };
      return closed.has(path) ? [own] : [own, ...treeRows(inside, closed, path)];
    });
  return [...rows, ...files.sort((a, b) => byName(a.name, b.name))];
}

export type PreviewKind = 'image' | 'video' | 'audio' | 'json' | 'table' | 'diff' | 'text' | 'none';

const KINDS: [pattern: RegExp, kind: PreviewKind][] = [
  [/\.(png|jpe?g|gif|webp|bmp|avif|ico)$/i, 'image'],
  [/\.(mp4|m4v|webm|mov|ogv)$/i, 'video'],
  [/\.(wav|mp3|ogg|oga|flac|m4a|opus)$/i, 'audio'],
  [/\.(csv|tsv|table\.json)$/i, 'table'],
  [/\.(json|ipynb)$/i, 'json'],
  [/\.(diff|patch)$/i, 'diff'],
];

/** By the name, and for unknown names by the first bytes: text has no zero byte. */
export function previewKind(path: string, bytes: Uint8Array): PreviewKind {
  const kind = KINDS.find(([pattern]) => pattern.test(path))?.[1] ?? 'text';
  return !isPlayed(path) && kind !== 'image' && bytes.subarray(0, 4_096).includes(0)
    ? 'none'
    : kind;
}

/** Whether the browser plays the file from its address, so that the page does not read it. */
export function isPlayed(path: string): boolean {
  return KINDS.some(([pattern, kind]) => /video|audio/.test(kind) && pattern.test(path));
}

export function isTablePath(path: string): boolean {
  return KINDS.some(([pattern, kind]) => kind === 'table' && pattern.test(path));
}

/** Files that may be molecules; their texts decide. */
export function isMoleculePath(path: string): boolean {
  return /\.(pdb|ent|xyz|mol|sdf)$/i.test(path);
}

export function isImagePath(path: string): boolean {
  return KINDS[0]?.[0].test(path) ?? false;
}

/** Indented JSON; text that is no JSON, or only the start of JSON, stays as it is. */
export function indentedJson(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), undefined, 2);
  } catch {
    return text;
  }
}

/** Rows of a file with separated values; quotes protect separators, quotes and line breaks. */
export function tableRows(text: string, separator: string): string[][] {
  const cells = new RegExp(`("(?:[^"]|"")*"?)?([^${separator}\\n]*)(${separator}|\\n|$)`, 'g');
  const rows: string[][] = [[]];
  for (const [, quoted = '', plain = '', end] of text.replaceAll('\r', '').matchAll(cells)) {
    const inner = quoted.replace(/^"|"$/g, '').replaceAll('""', '"');
    rows.at(-1)?.push(inner + plain);
    if (end === '\n') rows.push([]);
    else if (end === '') break;
  }
  // Nothing follows the last line break.
  return rows.at(-1)?.join(separator) === '' ? rows.slice(0, -1) : rows;
}
