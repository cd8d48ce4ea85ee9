/**
 * Whether this page is a published copy of a run: files on any web server, which `matyan publish` has written. Its
 * index page says so, so that a page of a server asks for nothing.
 */
export interface PublishedCopy {
  runId: string;
  /** When the copy was made, in milliseconds since the Unix epoch. */
  atMs: number;
}

function read(): PublishedCopy | undefined {
  const mark = globalThis.document?.querySelector<HTMLMetaElement>('meta[name="matyan-published"]');
  if (!mark) return undefined;
  const [at = '', ...words] = mark.content.split(' ');
  return { runId: words.join(' '), atMs: Number(at) || 0 };
}

/** Undefined: the page is a server's. */
export const published = read();

/** The address of a file with data. A later copy at the same place is not mixed up with this one. */
export function dataUrl(rootPath: string, path: string): string {
  return `${rootPath}data/${path}?${published?.atMs ?? ''}`;
}
