/** Curves of a table: those that are wanted at the same moment, such as of the rows of a page, are read by one call. */
import { isAbort } from '../../api/errors.ts';
import { Urgency } from '../../api/read_queue.ts';
import { loadSeries } from '../../api/series.ts';
import type { SeriesRef } from '../../api/series_cache.ts';
import type { SeriesData } from '../../api/series_data.ts';
import { toaster } from '../../state/toasts.svelte.ts';

export const CURVE_PX = 96;

interface WantedCurve {
  ref: SeriesRef;
  signal: AbortSignal;
  show: (data: SeriesData) => void;
}

let wanted: WantedCurve[] = [];

export function loadCurve(ref: SeriesRef, signal: AbortSignal, show: (data: SeriesData) => void): void {
  if (wanted.push({ ref, signal, show }) > 1) return;
  setTimeout(() => {
    const all = wanted.filter(one => !one.signal.aborted);
    wanted = [];
    if (all.length > 0) readCurves(all);
  });
}

function readCurves(all: readonly WantedCurve[]): void {
  const control = new AbortController();
  const end = (): void => void (all.every(({ signal }) => signal.aborted) && control.abort());
  for (const { signal } of all) signal.addEventListener('abort', end, { once: true });
  const show = (at: number, data: SeriesData): void => {
    if (!all[at]?.signal.aborted) all[at]?.show(data);
  };
  const load = { refs: all.map(({ ref }) => ref), urgency: Urgency.Refresh, signal: control.signal, show };
  loadSeries(load, { pixels: CURVE_PX }).catch((error: unknown) => isAbort(error) || toaster.error(error));
}
