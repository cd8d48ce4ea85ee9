/**
 * Reads the data of a chart: the buckets of its lines, and the values of its x axis unless they are
 * steps or times.
 */
import type { StepValues } from '../api/epochs.ts';
import type { Urgency } from '../api/read_queue.ts';
import { loadSeries } from '../api/series.ts';
import type { SeriesRef, StepView } from '../api/series_cache.ts';
import type { SeriesData } from '../api/series_data.ts';
import { groupBy } from '../collections.ts';
import type { PlacedAxis } from '../state/routes.ts';
import { isTimeAxis } from './chart_axis.ts';
import type { ChartLine } from './chart_groups.ts';
import { lineId } from './chart_series.ts';

export interface ChartLoad {
  lines: readonly ChartLine[];
  axis: PlacedAxis;
  urgency: Urgency;
  signal: AbortSignal;
  onSeries: (id: string, data: SeriesData) => void;
  onAxis: (id: string, values: StepValues) => void;
}

/** Resolves when everything is up to date. */
export async function loadChart(load: ChartLoad, view: Omit<StepView, 'hasTimes'>): Promise<void> {
  const { lines, axis, urgency, signal, onSeries } = load;
  const refs = lines.map(({ runId, info }) => ({ runId, number: info.number }));
  const show = (at: number, data: SeriesData): void =>
    onSeries(lineId(lines[at] as ChartLine), data);
  await Promise.all([
    loadSeries({ refs, urgency, signal, show }, { ...view, hasTimes: isTimeAxis(axis) }),
    axis === 'epoch'
      ? loadEpochs(load, refs)
      : axis === 'metric'
        ? loadAxis(load, view)
        : undefined,
  ]);
}

async function loadEpochs(
  { lines, urgency, signal, onAxis }: ChartLoad,
  refs: SeriesRef[],
): Promise<void> {
  const { readEpochs } = await import('../api/epochs.ts');
  const all = await readEpochs(refs, urgency, signal);
  all.forEach((values, at) => onAxis(lineId(lines[at] as ChartLine), values));
}

/** Several lines of a run may have the same axis, which is read once. */
async function loadAxis(
  { lines, urgency, signal, onAxis }: ChartLoad,
  view: Omit<StepView, 'hasTimes'>,
): Promise<void> {
  const placed = lines.filter(line => line.axis !== undefined);
  const all = [...groupBy(placed, line => `${line.axis}/${line.runId}`).values()];
  const refs = all.map(([line]) => ({ runId: line?.runId ?? '', number: line?.axis ?? 0 }));
  const show = (at: number, { steps, last }: SeriesData): void => {
    for (const line of all[at] ?? []) onAxis(lineId(line), { steps, values: last });
  };
  await loadSeries({ refs, urgency, signal, show }, view);
}
