/**
 * Named views: the scope of the workspace, and the columns, order, axes and other settings of its
 * pages, kept under a name for all readers. One can be the view with which the project opens. The
 * address names the open view (`named`), and has its whole state, so that it can be changed without
 * being saved.
 */
import { published } from '../api/published.ts';
import {
  createView,
  deleteView,
  readViews,
  updateView,
  type SavedView,
  type ViewState,
} from '../api/views.ts';
import { changeScope, href, navigate, page } from './location.svelte.ts';
import { VIEW_PAGES, type PageName } from './routes.ts';
import { joinParts, viewParts } from './view_parts.ts';
import { workspace } from './workspace.svelte.ts';

/** In place of an id: all runs, although the project opens with a view. */
const EVERYTHING = 'all';

/** Waits, and returns whether the reader has pressed a key or a button, or has scrolled, during the wait. */
async function isUsedDuring(wait: Promise<void>): Promise<boolean> {
  const end = new AbortController();
  let isUsed = false;
  const use = (): void => {
    isUsed = true;
  };
  for (const kind of ['pointerdown', 'keydown', 'wheel'])
    addEventListener(kind, use, { capture: true, passive: true, signal: end.signal });
  await wait;
  end.abort();
  return isUsed;
}

class Views {
  all = $state.raw<readonly SavedView[]>([]);
  /** Why the last read failed. */
  failure = $state.raw<unknown>();
  #reading: Promise<void> | undefined;
  #isKnown = false;
  /** Number of changes of `all` by this page. */
  #changes = 0;

  /** The view that the address names. */
  current = $derived(this.all.find(({ id }) => id === workspace.scope.named));
  parts = $derived(viewParts(page.open?.query ?? ''));
  isModified = $derived.by(() => {
    const { current, parts } = this;
    if (!current) return parts.scope !== '' || parts.page !== '';
    return parts.scope !== current.scope || parts.page !== (current.pages[this.#pageName] ?? '');
  });
  /** The oldest view that is marked as the default. */
  default = $derived(this.all.find(({ isDefault }) => isDefault));

  get #pageName(): PageName {
    return page.open?.route.name ?? 'runs';
  }

  /** Whether the open page can be a part of a view. A published copy shows one view, and has no others. */
  get isViewPage(): boolean {
    return !published && page.open !== undefined && VIEW_PAGES.includes(this.#pageName);
  }

  read(): Promise<void> {
    this.#reading ??= this.#readAll().finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  async #readAll(): Promise<void> {
    const before = this.#changes;
    try {
      const all = await readViews();
      // This page may have made a change after the server read the views.
      if (before !== this.#changes) return await this.#readAll();
      this.all = all;
      this.failure = undefined;
      this.#isKnown = true;
    } catch (error) {
      this.failure = error;
      throw error;
    }
  }

  /** Shows what this page has changed. */
  #keep(all: readonly SavedView[]): void {
    this.#changes += 1;
    this.all = all;
  }

  /** A read may have found the view before the answer to its creation came. */
  #add(view: SavedView): void {
    this.#keep([...this.all.filter(({ id }) => id !== view.id), view]);
  }

  /**
   * Reads the views for the page that was opened, and opens the view of the project if the address
   * asks for nothing else. A view that is known is opened at once. Until the views are known, the
   * page is shown without it, and stays so for a reader who has begun to use the page.
   */
  async readForPage(): Promise<void> {
    const { open } = page;
    if (!this.isViewPage) return;
    const wasKnown = this.#isKnown;
    if (wasKnown) this.#openDefault();
    // `failure` has what went wrong.
    const isUsed = await isUsedDuring(this.read().catch(() => {}));
    if (!wasKnown && !isUsed && page.open === open) this.#openDefault();
  }

  #openDefault(): void {
    if (page.open?.query !== '' || !this.default) return;
    navigate(this.address(this.default), { replace: true });
  }

  /** The address of a view on the open page; undefined: of all runs. */
  address(view: SavedView | undefined): string {
    // The address begins with the path of the open page.
    void page.open;
    const none = this.default ? EVERYTHING : '';
    const own = view
      ? { scope: view.scope, page: view.pages[this.#pageName] ?? '' }
      : viewParts('');
    return location.pathname + joinParts(own, view?.id ?? none);
  }

  /** The address of a view on the first of its pages. */
  entry(view: SavedView): string {
    const name = VIEW_PAGES.find(name => Object.hasOwn(view.pages, name)) ?? 'runs';
    const [path] = href(name).split('?');
    return path + joinParts({ scope: view.scope, page: view.pages[name] ?? '' }, view.id);
  }

  /** The address of another page, with the settings that the open view has for it. */
  addressOf(name: PageName): string {
    const own = this.current?.pages[name];
    const address = href(name);
    return own ? `${address}${address.includes('?') ? '&' : '?'}${own}` : address;
  }

  /** Keeps the state of the open page in the open view. */
  async save(): Promise<void> {
    const { current } = this;
    if (current) await this.#update({ ...current, ...this.#state(current) });
  }

  async create(name: string): Promise<SavedView> {
    const base = this.current ?? { name, isDefault: false, scope: '', pages: {} };
    const view = await createView({ ...this.#state(base), name, isDefault: false });
    this.#add(view);
    navigate(location.pathname + joinParts(this.parts, view.id));
    return view;
  }

  async rename(view: SavedView, name: string): Promise<void> {
    // The name was typed for a while, in which the view may have been read again.
    const newest = this.all.find(({ id }) => id === view.id) ?? view;
    await this.#update({ ...newest, name });
  }

  /**
   * Opens the project with a view from now on; undefined: with all runs. Each view is changed by
   * its own call. If a call fails, or two readers choose at the same moment, several
   * views may be marked: `default` is the oldest of them on every page, and the next choice clears
   * the other marks.
   */
  async setDefault(view: SavedView | undefined): Promise<void> {
    for (const one of this.all) {
      const isDefault = one.id === view?.id;
      if (one.isDefault !== isDefault) await this.#update({ ...one, isDefault });
    }
  }

  /** Returns a function that brings the view back. */
  async remove(view: SavedView): Promise<() => Promise<void>> {
    await this.#orRead(deleteView(view.id));
    this.#keep(this.all.filter(({ id }) => id !== view.id));
    return async () => {
      // Another view may be the default by now.
      const next = await createView({ ...view, isDefault: view.isDefault && !this.default });
      this.#add(next);
      if (workspace.scope.named === view.id) changeScope({ named: next.id });
    };
  }

  #state(base: ViewState): ViewState {
    const { parts } = this;
    return { ...base, scope: parts.scope, pages: { ...base.pages, [this.#pageName]: parts.page } };
  }

  async #update(view: SavedView): Promise<void> {
    const next = await this.#orRead(updateView(view));
    this.#keep(this.all.map(one => (one.id === next.id ? next : one)));
  }

  /** The result of an edit. Somebody else may have changed or deleted the view if it fails. */
  async #orRead<T>(edit: Promise<T>): Promise<T> {
    try {
      return await edit;
    } catch (error) {
      // A read that began earlier may have missed the change of somebody else.
      this.#changes += 1;
      // The view of somebody else is shown next to the failure.
      await this.read().catch(() => {});
      throw error;
    }
  }
}

export const views = new Views();
