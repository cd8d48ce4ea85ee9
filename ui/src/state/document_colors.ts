/**
 * The colors of the runs of a dashboard or report. They follow from the runs that its panels show,
 * not from the panel that was read first or from pages that were open before: everyone who opens the
 * document, or a copy of it, sees the same colors.
 *
 * Panels follow their runs. A run that arrives while the document is open changes no color of the
 * others, and a run keeps its color when another one leaves. When the document is opened again, its
 * colors follow from the runs of that time.
 */
import { placeColors } from '../plot/palette.ts';

/** A run with the time of its creation, in microseconds since 1970. */
export interface AgedRun {
  runId: string;
  createdUs: bigint;
}

/** The oldest run first. Runs of the same time are in the order of their ids. */
export function byAge(a: AgedRun, b: AgedRun): number {
  if (a.createdUs !== b.createdUs) return a.createdUs < b.createdUs ? -1 : 1;
  if (a.runId === b.runId) return 0;
  return a.runId < b.runId ? -1 : 1;
}

type Places = ReadonlyMap<string, number>;

interface PanelRuns {
  /** Identifies the request of the panel. Another request discards the runs that are known. */
  question: string;
  /** The runs of the first answer. */
  first: readonly AgedRun[];
  /** The runs of the latest answer. */
  latest: readonly AgedRun[];
}

export class DocumentColors {
  #panels = new Map<symbol, PanelRuns>();
  /** Places of runs that arrived after the first answers. */
  #added: Places = new Map();
  #found: Places = new Map();

  /** Notes the runs of a panel. Returns whether they changed. */
  show(panel: symbol, question: string, runs: readonly AgedRun[]): boolean {
    const before = this.#panels.get(panel);
    if (before?.question !== question) {
      this.#panels.set(panel, { question, first: runs, latest: runs });
      return true;
    }
    if (idsText(before.latest) === idsText(runs)) return false;
    this.#panels.set(panel, { ...before, latest: runs });
    return true;
  }

  /** Forgets a panel that is no longer part of the document. */
  hide(panel: symbol): boolean {
    const isKnown = this.#panels.delete(panel);
    // The next document starts anew.
    if (this.#panels.size === 0) this.#added = new Map();
    return isKnown;
  }

  /** The places that were found last. Panels may have left since. */
  get found(): Places {
    return this.#found;
  }

  /** The places in the palette of the runs of all panels. */
  places(chosen: Places): Places {
    const panels = [...this.#panels.values()];
    const first = placed(
      panels.map(panel => panel.first),
      new Map(),
      chosen,
    );
    const all = placed(
      panels.map(panel => panel.latest),
      new Map([...this.#added, ...first]),
      chosen,
    );
    this.#added = new Map([...all].filter(([id]) => !first.has(id) && !chosen.has(id)));
    this.#found = all;
    return all;
  }
}

function placed(groups: readonly (readonly AgedRun[])[], known: Places, chosen: Places): Places {
  const runs = new Map(groups.flat().map(run => [run.runId, run]));
  const ids = [...runs.values()].sort(byAge).map(({ runId }) => runId);
  return placeColors(
    ids,
    known,
    chosen,
    groups.map(group => group.map(({ runId }) => runId)),
  );
}

function idsText(runs: readonly AgedRun[]): string {
  return JSON.stringify(runs.map(({ runId }) => runId).sort());
}
