/** Lines as the renderer draws them: one for each series, or one for each group of runs with a band around it. */
import type { StepValues } from '../api/epochs.ts';
import { EMPTY_SERIES, lowerBound, type SeriesData } from '../api/series_data.ts';
import { contextTitle } from '../format/context.ts';
import { groupBy } from '../collections.ts';
import { smoothed, type ChartSeries } from '../plot/lines.ts';
import type { ChartsState } from '../state/routes.ts';
import { band, bandData } from './bands.ts';
import { positions } from './chart_axis.ts';
import { groupOwner, titleOf, type ChartLine } from './chart_groups.ts';

export type SeriesById<T> = ReadonlyMap<string, T>;

export function lineId({ runId, info }: ChartLine): string {
  return `${info.number}/${runId}`;
}

export function chartSeries(
  lines: readonly ChartLine[],
  data: SeriesById<SeriesData>,
  axis: SeriesById<StepValues>,
  settings: ChartsState,
  isDark: boolean,
): ChartSeries[] {
  const own = lines.map((line): ChartSeries => {
    const { color, dash, startMs } = line;
    const id = lineId(line);
    const series = data.get(id) ?? EMPTY_SERIES;
    const x = positions(settings.x, series, startMs, axis.get(id));
    return {
      id,
      owner: line.owner,
      label: titleOf(line.label, line.group, line.stroke),
      color: isDark ? color.dark : color.light,
      dash,
      // A series without a place on the axis is not drawn.
      data: x.length === series.steps.length ? series : EMPTY_SERIES,
      x,
      // A branch leaves at the last point that it shares.
      forks: line.forks.map(({ step, text }) => ({
        x: settings.x === 'step' ? step : (x[lowerBound(series.steps, step + 1) - 1] ?? NaN),
        text,
      })),
    };
  });
  const isGrouped = settings.center !== 'each' && lines.some(({ group }) => group !== undefined);
  const shown = isGrouped ? grouped(lines, own, settings) : own;
  if (settings.smooth === 0) return shown;
  return shown.map(series =>
    series.isMember ? series : { ...series, smooth: smoothed(series.data.last, settings.smooth) },
  );
}

/** One line for each group, its dashes and its context, above the lines of its runs. */
function grouped(
  lines: readonly ChartLine[],
  own: readonly ChartSeries[],
  settings: ChartsState,
): ChartSeries[] {
  const key = (at: number): string => `${lines[at]?.group} ${lines[at]?.stroke} ${lines[at]?.info.context}`;
  const centers = [...groupBy([...lines.keys()], key)].map(([id, places]): ChartSeries => {
    const first = places[0] as number;
    const { group, stroke, info, dash } = lines[first] as ChartLine;
    const members = places.map(at => own[at] as ChartSeries).filter(({ x }) => x.length > 0);
    const center = settings.center === 'median' ? 'median' : 'mean';
    const found = band(members, center, settings.band === 'none' ? 'extremes' : settings.band);
    const runs = new Set(places.map(at => lines[at]?.runId));
    return {
      id,
      owner: groupOwner(group, stroke),
      members: runs,
      label: `${titleOf(`${group || 'none'} ${contextTitle(info.context)}`.trimEnd(), stroke)} (${runs.size})`,
      color: (own[first] as ChartSeries).color,
      dash,
      data: bandData(found),
      x: found.x,
      ...(settings.band !== 'none' && { area: { low: found.low, high: found.high } }),
    };
  });
  // A band from the lowest to the highest value shows every spike; others need the lines themselves for that.
  const isComplete = settings.band === 'extremes';
  return [...(isComplete ? [] : own.map(series => ({ ...series, isMember: true }))), ...centers];
}
