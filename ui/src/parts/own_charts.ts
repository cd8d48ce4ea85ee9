/**
 * Charts of a page with their own settings: other axes than the page, another title, or several
 * metrics in one chart. The URL has them, by the metric of the chart, with what differs from the
 * page.
 */
import {
  decode,
  encode,
  field,
  flag,
  list,
  number,
  choice,
  text,
  type State,
} from '../state/url.ts';
import { groupBy } from '../collections.ts';
import { plainContext } from '../format/context.ts';
import { xAxisOf } from '../format/goals.svelte.ts';
import { isShown, type Panel } from '../panels/panels.ts';
import { LINE_WIDTHS, X_AXES, type ChartsState } from '../state/routes.ts';
import { mergedChart, type ChartGroup, type ChartLine } from './chart_groups.ts';

/** The widths of lines that readers choose from. */
export const WIDTH_OPTIONS = [
  ['auto', 'Automatic'],
  ['thin', 'Thin'],
  ['medium', 'Medium'],
  ['thick', 'Thick'],
] as const;

const schema = {
  title: field(text, ''),
  /** All metrics of the chart; empty: the metric itself. */
  metric: field(list, [] as string[]),
  x: field(choice(...X_AXES), 'auto'),
  xm: field(text, ''),
  smooth: field(number, 0),
  logx: field(flag, false),
  logy: field(flag, false),
  calm: field(flag, false),
  line: field(choice(...LINE_WIDTHS), 'auto'),
  low: field<number | undefined>(number, undefined),
  high: field<number | undefined>(number, undefined),
  center: field(choice('mean', 'median', 'each'), 'mean'),
  band: field(choice('extremes', 'deviation', 'confidence', 'none'), 'extremes'),
  legend: field(flag, true),
};

export type OwnSettings = State<typeof schema>;

/** The settings of charts by their names, as the URL has them. */
export function ownSettings(texts: readonly string[]): Map<string, OwnSettings> {
  return new Map(
    texts.flatMap(one => {
      const [, name = '', query = ''] = /^([^?]*)\?(.*)$/s.exec(one) ?? [];
      try {
        return name ? [[decodeURIComponent(name), decode(schema, query)] as const] : [];
      } catch {
        // An address that was cut has half of a name.
        return [];
      }
    }),
  );
}

/** The texts of the URL with other settings for one chart; undefined: the settings of the page. */
export function withOwn(
  texts: readonly string[],
  name: string,
  settings: OwnSettings | undefined,
): string[] {
  const start = `${encodeURIComponent(name)}?`;
  const others = texts.filter(text => !text.startsWith(start));
  if (!settings) return others;
  return [...others, start + encode(schema, settings).slice(1)];
}

/** The settings of the page, as far as a chart does not have its own. */
export function settingsOf(page: ChartsState, own: OwnSettings | undefined): ChartsState {
  if (!own) return page;
  const { title: _title, metric: _metric, legend: _legend, ...axes } = own;
  return { ...page, ...axes };
}

/** The settings of a panel that a chart of a page can have. */
export function ownOf(panel: Panel): OwnSettings {
  const names = Object.keys(schema) as (keyof OwnSettings)[];
  return Object.fromEntries(names.map(name => [name, panel[name]])) as OwnSettings;
}

/** The chart with the metrics that its settings name, out of all charts of the page. */
export function chartOf(
  chart: ChartGroup,
  own: OwnSettings | undefined,
  all: readonly ChartGroup[],
): ChartGroup {
  if (!own) return chart;
  const isOf = (one: ChartGroup): boolean => one === chart || isShown(own.metric, one.name);
  const order = (one: ChartGroup): number => (one === chart ? -1 : own.metric.indexOf(one.name));
  const charts = all.filter(isOf).sort((a, b) => order(a) - order(b));
  const name = own.title || charts.map(({ name }) => name).join(', ');
  const merged = mergedChart(name, charts);
  if (own.x !== 'metric' && own.x !== 'auto') return merged;
  const lines = all.flatMap(chart => chart.lines);
  const named = groupBy(lines, ({ info }) => info.name);
  const axes = ({ info }: ChartLine): ChartLine[] =>
    named.get(own.x === 'metric' ? own.xm : (xAxisOf(info.name) ?? '')) ?? [];
  return { name, lines: merged.lines.map(line => ({ ...line, axis: axisOf(line, axes(line)) })) };
}

/** The series of the x axis in the context of a line, or without a context. */
function axisOf({ runId, info }: ChartLine, axes: readonly ChartLine[]): number | undefined {
  const own = axes.filter(axis => axis.runId === runId);
  const same = own.find(axis => axis.info.context === info.context);
  return (same ?? own.find(axis => plainContext(axis.info.context) === ''))?.info.number;
}
