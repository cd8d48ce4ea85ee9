/**
 * The page that is open, from the URL and into it. A change of state is an entry of the history:
 * back undoes it. A state that is too long for an address is kept by the server, and its URL has
 * only the id; the entry of the history has the state.
 */
import { documentPath, published, type PublishedCopy } from '../api/published.ts';
import { readText, saveView } from '../api/texts.ts';
import { rootPath } from '../api/transport.ts';
import { pageOfFragment, printedPage, type PrintedPage } from './printed_pages.ts';
import { toaster } from './toasts.svelte.ts';
import { withSavedState } from './published_state.ts';
import { MOVED, routes, schemas, scope, type Route, type Scope } from './routes.ts';
import { decode, encode, fillPath, matchPath, type Schema, type State } from './url.ts';

export interface OpenPage {
  route: Route;
  params: Record<string, string>;
  query: string;
}

const HOME = '/home';
/** Field of a URL with the id of a saved state. */
const SAVED = 'saved';
/** Proxies and chats break much longer addresses. */
const LONGEST_QUERY = 4_000;
/** Pause after which a long state is saved, so that typing does not save a state for every key. */
const SETTLE_MS = 1_000;

/**
 * The path of the document. Each document of a published copy is one page, under the path at which it was opened: web
 * servers and buckets differ in which file they send for a folder.
 */
const ownPath = globalThis.location?.pathname ?? '/';
if (published) {
  const query = withSavedState(location.search, published);
  if (query !== location.search) history.replaceState(null, '', ownPath + query);
}

class Page {
  /** Undefined if no page has this path. */
  open = $state.raw<OpenPage | undefined>(globalThis.location && read());
  /** The question before this page is left and loses something; empty: it does not. */
  unsaved = '';
}

export const page = new Page();

export function pageState<S extends Schema>(schema: S): State<S> {
  return decode(schema, page.open?.query ?? '');
}

/**
 * Changes fields of the state of the open page. Quick changes in a row, such as typing, are one
 * step back.
 */
export function change<S extends Schema>(
  schema: S,
  patch: Partial<State<S>>,
  options = { replace: false },
): void {
  const whole = { ...scope, ...schema };
  const state = { ...pageState(whole), ...patch };
  navigate(location.pathname + encode(whole, state), options);
}

/** Changes the scope, and keeps the other fields of the open page. */
export function changeScope(patch: Partial<Scope>): void {
  const others = new URLSearchParams(page.open?.query);
  for (const name of Object.keys(scope)) others.delete(name);
  const query = encode(scope, { ...pageState(scope), ...patch });
  const rest = others.toString();
  navigate(location.pathname + query + (rest && `${query ? '&' : '?'}${rest}`));
}

/** The address of a page with the scope of the open page, as far as `state` has no other. */
export function href<S extends Schema>(
  name: string,
  params: Record<string, string> = {},
  schema?: S,
  state: Partial<State<S>> = {},
): string {
  const whole = { ...scope, ...schema };
  return pathTo(name, params) + encode(whole, { ...pageState(scope), ...state });
}

function pathTo(name: string, params: Record<string, string> = {}): string {
  if (published) {
    const own = documentPath(published, name, params.run);
    return own === undefined ? ownPath : rootPath + own;
  }
  const route = routes.find(route => route.name === name);
  return rootPath.replace(/\/$/, '') + fillPath(route?.path ?? HOME, params);
}

export function navigate(url: string, { replace } = { replace: false }): void {
  if (url === location.pathname + (page.open?.query ?? location.search)) return;
  if (!mayLeave(url)) return;
  if (isOtherDocument(url)) {
    location.assign(url);
    return;
  }
  if (replace) history.replaceState(null, '', url);
  else history.pushState(null, '', url);
  if (isShortened()) void restore();
  else page.open = read();
  clearTimeout(shortening);
  shortening = setTimeout(() => void shorten(), SETTLE_MS);
}

/** Pages of a published copy are documents. */
function isOtherDocument(url: string): boolean {
  return published !== undefined && new URL(url, location.href).pathname !== location.pathname;
}

function pathOf(open: OpenPage | undefined): string {
  return open ? pathTo(open.route.name, open.params) : location.pathname;
}

function mayLeave(url: string): boolean {
  const isSame = new URL(url, location.href).pathname === pathOf(page.open);
  if (!isSame && page.unsaved && !confirm(page.unsaved)) return false;
  if (!isSame) page.unsaved = '';
  return true;
}

let shortening: ReturnType<typeof setTimeout> | undefined;

async function shorten(): Promise<void> {
  const { pathname, search } = location;
  if (search.length <= LONGEST_QUERY || published) return;
  try {
    const id = await saveView(search);
    const isSame = pathname === location.pathname && search === location.search;
    if (isSame) history.replaceState({ query: search }, '', `${pathname}?${SAVED}=${id}`);
  } catch {
    // The long address works too, and the next change retries.
  }
}

function isShortened(): boolean {
  return !published && new URLSearchParams(location.search).has(SAVED) && !history.state?.query;
}

/** Reads the state of a URL that has only its id. Called once before the first page, too. */
export async function restore(): Promise<void> {
  if (!isShortened()) return;
  const { href } = location;
  try {
    const query = await readText(new URLSearchParams(location.search).get(SAVED) ?? '');
    // Another page may be open by now.
    if (location.href !== href) return;
    history.replaceState({ query }, '', href);
  } catch (error) {
    toaster.error(error, () => void restore());
  }
  page.open = read();
}

/** Shows the page of the address, which going back has changed. */
export function reopen(): void {
  if (mayLeave(location.href)) page.open = read();
  else history.pushState(null, '', pathOf(page.open) + (page.open?.query ?? ''));
}

/** Opens a link of this page without reloading the document. */
export function followLink(event: MouseEvent): void {
  const link = (event.target as Element | null)?.closest?.('a');
  const isPlain =
    event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
  if (!link || !isPlain || event.defaultPrevented || link.target || link.hasAttribute('download'))
    return;
  const url = new URL(link.href);
  const path = url.pathname.startsWith(rootPath) ? url.pathname.slice(rootPath.length) : undefined;
  // Other projects, and the pages for signing in, are other documents.
  if (url.origin !== location.origin || path === undefined || /^(p\/|sign-in(\/|$))/.test(path))
    return;
  if (isOtherDocument(link.href)) return;
  event.preventDefault();
  navigate(url.pathname + url.search);
}

function publishedPage({ page, id }: PublishedCopy): OpenPage | undefined {
  const route = routes.find(({ name }) => name === page);
  const param = /:(\w+)/.exec(route?.path ?? '')?.[1];
  return route && { route, params: param ? { [param]: id } : {}, query: location.search };
}

/** The query of a table of runs from before its groups had the name `by`: readers bookmarked some. */
function withGroups(query: string): string {
  const fields = new URLSearchParams(query);
  const groups = fields.get('group');
  if (!groups || fields.has('by')) return query;
  fields.delete('group');
  fields.set('by', groups);
  return `?${fields}`;
}

function read(): OpenPage | undefined {
  if (published) return publishedPage(published);
  const path = `/${location.pathname.slice(rootPath.length)}`;
  const kind = MOVED[path.split('/')[1] ?? ''];
  if (kind) {
    history.replaceState(null, '', pathTo('media') + encode(schemas.media, { kind }));
    return read();
  }
  const fragment = path === '/' ? pageOfFragment(location.hash) : undefined;
  if (fragment) return moveTo(fragment);
  for (const route of routes) {
    const params = matchPath(route.path, path === '/' ? HOME : path);
    const query = history.state?.query ?? location.search;
    if (params) return { route, params, query: route.name === 'runs' ? withGroups(query) : query };
  }
  const printed = printedPage(path);
  return printed && moveTo(printed);
}

/** Puts the address of a page in place of the address that a client has printed for it. */
function moveTo({ name, params, query }: PrintedPage): OpenPage | undefined {
  history.replaceState(null, '', pathTo(name, params) + encode(scope, { q: query }));
  return read();
}
