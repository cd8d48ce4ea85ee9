/**
 * The workspace: which runs are looked at and how they look, the same on all pages. Its state is in
 * the URL of every page, except for the colors that runs got by themselves: a run keeps its color
 * for as long as the tab is open, whatever is shown next to it later. Dashboards and reports belong
 * to all readers, so their colors follow from the runs that they show, and from colors in the URL.
 */
import { untrack } from 'svelte';

import { projectName } from '../api/transport.ts';
import { toggled } from '../collections.ts';
import { hashCondition, withCondition } from '../query/conditions.ts';
import { indexColor, ownPlace, PALETTE, placeColors, type PaletteColor } from '../plot/palette.ts';
import { DocumentColors, type AgedRun } from './document_colors.ts';
import { changeScope, page, pageState } from './location.svelte.ts';
import { scope, type Scope } from './routes.ts';
import { toaster } from './toasts.svelte.ts';
import { list } from './url.ts';

const KEY = `matyan-colors ${projectName}`.trimEnd();
/** Longer charts repeat colors anyway. */
const MAX_KNOWN = 1_000;
/** Runs that are named in the URL, which has to stay short. */
const MAX_NAMED = 80;
const MAX_CHOSEN = 40;
/** In place of an id, if no run is shown. */
const NOBODY = 'none';

/** Places in the palette that runs got, by their ids. */
let known = readPlaces();

/** Texts of the URL instead of lists, which would be others after every change of the URL. */
const fields = $derived(new URLSearchParams(page.open?.query));
const hideText = $derived(fields.get('hide') ?? '');
const onlyText = $derived(fields.get('only') ?? '');
const colorsText = $derived(fields.get('colors') ?? '');

const idsOf = (text: string): string[] => list.read(text) ?? [];
const hasHidden = $derived(hideText !== '' || onlyText !== '');
const isVisible = $derived.by(() => {
  const only = new Set(idsOf(onlyText));
  if (only.size > 0) return (runId: string) => only.has(runId);
  const hide = new Set(idsOf(hideText));
  return (runId: string) => !hide.has(runId);
});
const chosen = $derived(new Map(idsOf(colorsText).flatMap(parseChoice)));

const documentColors = new DocumentColors();
/** Counts the changes of `documentColors`. */
let documentVersion = $state(0);
const isDocument = $derived(/^(dashboard|report)$/.test(page.open?.route.name ?? ''));
const documentPlaces = $derived.by(() => {
  void documentVersion;
  return documentColors.places(chosen);
});

export const workspace = {
  get scope(): Scope {
    return pageState(scope);
  },

  /** Returns a test for runs that charts show. */
  get isVisible(): (runId: string) => boolean {
    return isVisible;
  },

  get hasHidden(): boolean {
    return hasHidden;
  },

  /** Ids of the runs that are shown without all others; undefined: other runs are shown too. */
  get only(): readonly string[] | undefined {
    return onlyText === '' ? undefined : idsOf(onlyText).filter(id => id !== NOBODY);
  },

  get hide(): readonly string[] {
    return idsOf(hideText);
  },

  /** A query that finds the runs that charts show. */
  get query(): string {
    const { only, hide } = workspace;
    const { q } = workspace.scope;
    if (only) return withCondition(q, hashCondition(only));
    return hide.length > 0 ? withCondition(q, `not (${hashCondition(hide)})`) : q;
  },

  /** The members whose runs are shown; `all` itself if no run is hidden. */
  shown<T>(all: readonly T[], idOf: (one: T) => string): readonly T[] {
    return hasHidden ? all.filter(one => isVisible(idOf(one))) : all;
  },

  toggleVisible(runId: string): void {
    const { only, hide } = workspace;
    const named = [...toggled(only ?? hide, runId)];
    const isLonger = named.length > (only ?? hide).length;
    if (isLonger && named.length > MAX_NAMED)
      toaster.info(`At most ${MAX_NAMED} runs are hidden or shown one by one. A query finds more.`);
    else if (only) changeScope({ only: named.length > 0 ? named : [NOBODY] });
    else changeScope({ hide: named });
  },

  /** Shows no other run, or all runs if no other is shown. */
  showOnly(runId: string): void {
    const { only } = workspace;
    const isAlone = only?.length === 1 && only[0] === runId;
    changeScope({ only: isAlone ? [] : [runId], hide: [] });
  },

  showAll(): void {
    changeScope({ hide: [], only: [] });
  },

  /** Gives a run a color of the palette; undefined: its color is found again. */
  choose(runId: string, place: number | undefined): void {
    const others = workspace.scope.colors.filter(text => !text.startsWith(`${runId}=`));
    const added = place === undefined ? [] : [`${runId}=${place}`];
    changeScope({ colors: [...others, ...added].slice(-MAX_CHOSEN) });
  },

  get chosen(): ReadonlyMap<string, number> {
    return chosen;
  },

  /** The color of a run that is shown by itself, or in a panel of a document. */
  colorOf(runId: string): PaletteColor {
    const before = isDocument ? documentPlaces : known;
    return indexColor(chosen.get(runId) ?? before.get(runId) ?? ownPlace(runId));
  },

  /** The colors of runs that are shown together, the first run first. */
  colorsOf(runIds: readonly string[]): ReadonlyMap<string, PaletteColor> {
    // A panel that is shown large has the colors of its document.
    const places = placeColors(runIds, isDocument ? documentPlaces : known, chosen);
    if (!isDocument) remember(places);
    return new Map([...places].map(([id, place]) => [id, indexColor(place)]));
  },

  /** Notes the runs of a panel of a document, which share its colors. */
  showInDocument(panel: symbol, question: string, runs: readonly AgedRun[]): void {
    if (documentColors.show(panel, question, runs)) untrack(() => (documentVersion += 1));
  },

  /** Forgets a panel of a document. Pages that follow keep the colors of its runs. */
  hideInDocument(panel: symbol): void {
    untrack(() => {
      // Every panel of a document leaves at the same time, so nothing is computed here.
      remember(new Map([...documentColors.found].filter(([id]) => !known.has(id))));
      if (documentColors.hide(panel)) documentVersion += 1;
    });
  },
};

function parseChoice(text: string): [string, number][] {
  const [, id, place] = /^(.+)=(\d+)$/.exec(text) ?? [];
  return id && isPlace(Number(place)) ? [[id, Number(place)]] : [];
}

function isPlace(place: unknown): place is number {
  return Number.isInteger(place) && PALETTE[place as number] !== undefined;
}

/** Keeps the places of runs for the next pages, except for chosen places, which are in the URL. */
function remember(places: ReadonlyMap<string, number>): void {
  const found = [...places].filter(([id]) => !chosen.has(id));
  if (found.every(([id, place]) => known.get(id) === place)) return;
  known = new Map([...known, ...found].slice(-MAX_KNOWN));
  try {
    sessionStorage.setItem(KEY, JSON.stringify([...known]));
  } catch {
    // A full or forbidden storage must not break the page; the colors last until it is left.
  }
}

function readPlaces(): Map<string, number> {
  try {
    const stored: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? '[]');
    const isKnown = (one: unknown): one is [string, number] =>
      Array.isArray(one) && typeof one[0] === 'string' && isPlace(one[1]);
    return new Map(Array.isArray(stored) ? stored.filter(isKnown) : []);
  } catch {
    return new Map();
  }
}
