/**
 * Lines as the renderer draws them: one line for each series, or one for each group of runs with a
 * band around it.
 */
import type { StepValues } from '../api/epochs.ts';
import { EMPTY_SERIES, lowerBound, type SeriesData } from '../api/series_data.ts';
import { contextTitle } from '../format/context.ts';
import { groupBy } from '../collections.ts';
import { smoothed, type ChartSeries } from '../plot/lines.ts';
import { band, bandData } from './bands.ts';
import { positions } from './chart_axis.ts';
import { groupOwner, titleOf, type ChartLine } from './chart_groups.ts';
import type { PlacedSettings } from './placed_settings.ts';

type ById<T> = ReadonlyMap<string, T>;

/** The data that was read for a chart, by the ids of its lines. */
export interface ChartData {
  series: ById<SeriesData>;
  /** Values of the x axis, if that is an epoch or another metric. */
  axis: ById<StepValues>;
}

export function lineId({ runId, info }: ChartLine): string {
  return `${info.number}/${runId}`;
}

/** `whole` is the data without a zoom, from which smoothing starts. */
export function chartSeries(
  lines: readonly ChartLine[],
  data: ChartData,
  settings: PlacedSettings,
  isDark: boolean,
  whole = data,
): ChartSeries[] {
  const shown = rawSeries(lines, data, settings, isDark);
  if (settings.smooth === 0) return shown;
  const all = whole === data ? shown : rawSeries(lines, whole, settings, isDark);
  const wholeOf = new Map(all.map(one => [one.id, one.data]));
  return shown.map(one =>
    one.isMember
      ? one
      : { ...one, smooth: smoothed(one.data, settings.smooth, wholeOf.get(one.id)) },
  );
}

function rawSeries(
  lines: readonly ChartLine[],
  data: ChartData,
  settings: PlacedSettings,
  isDark: boolean,
): ChartSeries[] {
  const own = lines.map((line): ChartSeries => {
    const { color, dash, startMs } = line;
    const id = lineId(line);
    const series = data.series.get(id) ?? EMPTY_SERIES;
    const x = positions(settings.x, series, startMs, data.axis.get(id));
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
  return isGrouped ? grouped(lines, own, settings) : own;
}

/** One line for each group, its dashes and its context, above the lines of its runs. */
function grouped(
  lines: readonly ChartLine[],
  own: readonly ChartSeries[],
  settings: PlacedSettings,
): ChartSeries[] {
  const key = (at: number): string =>
    `${lines[at]?.group} ${lines[at]?.stroke} ${lines[at]?.info.context}`;
  const centers = [...groupBy([...lines.keys()], key)].map(([id, places]): ChartSeries => {
    const first = places[0] as number;
    const { group, stroke, info, dash } = lines[first] as ChartLine;
    const members = places.map(at => own[at] as ChartSeries).filter(({ x }) => x.length > 0);
    const center = settings.center === 'median' ? 'median' : 'mean';
    const found = band(members, center, settings.band === 'none' ? 'extremes' : settings.band);
    const runs = new Set(places.map(at => lines[at]?.runId));
    const title = `${group || 'none'} ${contextTitle(info.context)}`.trimEnd();
    return {
      id,
      owner: groupOwner(group, stroke),
      members: runs,
      label: `${titleOf(title, stroke)} (${runs.size})`,
      color: (own[first] as ChartSeries).color,
      dash,
      data: bandData(found, members),
      x: found.x,
      ...(settings.band !== 'none' && { area: { low: found.low, high: found.high } }),
    };
  });
  // A band from the lowest to the highest value shows every spike; others need the lines themselves
  // for that.
  const isComplete = settings.band === 'extremes';
  return [...(isComplete ? [] : own.map(series => ({ ...series, isMember: true }))), ...centers];
}
