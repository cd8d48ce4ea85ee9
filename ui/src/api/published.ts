/**
 * Whether this page is a published copy: files on any web server, which `matyan publish` has written. Its
 * index page says so, so that a page of a server asks for nothing. A copy of a report, a dashboard or a named view has a
 * document for each of its pages, and one for each of its runs.
 */
export interface PublishedCopy {
  /** The page that the document shows. */
  page: string;
  /** Id of the run, the report or the dashboard of the page. */
  id: string;
  /** When the copy was made, in milliseconds since the Unix epoch. */
  atMs: number;
  /** The pages of the copy, the one at its root first. A copy of one run has none. */
  pages: readonly string[];
  /** Folder of the files of the run, such as `runs/3fd1c0/`; empty: they are at the root of the copy. */
  folder: string;
  /**
   * The scope of a named view, and the rest of its state on this page: two queries of addresses.
   */
  scope: string;
  state: string;
}

/** Reads the element that names the copy. */
export function copyOf({ content, dataset }: Pick<HTMLMetaElement, 'content' | 'dataset'>) {
  const [at = '', ...words] = content.split(' ');
  const { page = 'run', pages = '', folder = '', scope = '', state = '' } = dataset;
  const id = words.join(' ');
  return {
    ...{ page, id, folder, scope, state },
    atMs: Number(at) || 0,
    pages: pages.split(' ').filter(Boolean),
  };
}

function read(): PublishedCopy | undefined {
  const mark = globalThis.document?.querySelector<HTMLMetaElement>('meta[name="matyan-published"]');
  return mark ? copyOf(mark) : undefined;
}

/** Undefined: the page is a server's. */
export const published = read();

/** The address of a file with data. A later copy at the same place is not mixed up with this one. */
export function dataUrl(rootPath: string, path: string): string {
  return `${rootPath}data/${path}?${published?.atMs ?? ''}`;
}

/**
 * Folders of the runs that have their own page, by their ids; known once the list of runs was read.
 */
const runFolders = new Map<string, string>();

export function addRunPage(runId: string, folder: string): void {
  runFolders.set(runId, folder);
}

export function hasRunPage(runId: string): boolean {
  return runFolders.has(runId);
}

/** Path of the document of another page below the root of the copy; undefined: the copy does not have the page. */
export function documentPath(
  { page, pages }: Pick<PublishedCopy, 'page' | 'pages'>,
  name: string,
  runId: string | undefined,
): string | undefined {
  if (name === 'run') {
    const folder = runFolders.get(runId ?? '');
    return folder === undefined ? undefined : `runs/${folder}/index.html`;
  }
  if (name === page || !pages.includes(name)) return undefined;
  return name === pages[0] ? 'index.html' : `${name}/index.html`;
}
