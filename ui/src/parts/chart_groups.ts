/** Metrics as charts: one for each name, with a line for each run and context. */
import { contextTitle, plainContext, SYSTEM_PREFIX } from '../format/context.ts';
import type { Props, Run, SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { milliseconds } from '../format/time.ts';
import { groupBy } from '../collections.ts';
import { DASHES, indexColor, PALETTE, runColor, type PaletteColor } from '../plot/palette.ts';

/** One line of a chart. */
export interface ChartLine {
  runId: string;
  info: SeriesInfo;
  label: string;
  color: PaletteColor;
  dash: readonly number[];
  /** Start of the run in milliseconds since 1970, for times since then. */
  startMs: number;
  /** Number of the series that is the x axis, if another metric is. */
  axis?: number | undefined;
  /** Title of the group whose band the line is part of. */
  group?: string | undefined;
}

export interface ChartOptions {
  /** Name of the metric that is the x axis. */
  axis?: string;
  /** The group of a run; undefined: every run is a line. */
  groupOf?: ((run: Run) => string) | undefined;
}

export interface ChartGroup {
  name: string;
  lines: ChartLine[];
}

/** Start of a run by the clock that its points have; the server's clock may differ. */
export function startMs({ clientStartedUs, createdUs }: Props): number {
  return milliseconds(clientStartedUs ?? createdUs);
}

/** The series of a metric in the context of another one, or without a context. */
function axisNumber(all: readonly SeriesInfo[], { context }: SeriesInfo, name: string | undefined) {
  const own = name ? all.filter(one => one.name === name) : [];
  return (own.find(one => one.context === context) ?? own.find(one => plainContext(one.context) === ''))
    ?.number;
}

/** The charts of one run. Each context has its own color. */
export function runCharts(
  runId: string,
  start: number,
  all: readonly SeriesInfo[],
  axis?: string,
): ChartGroup[] {
  const groups = [...groupBy(all, ({ name }) => name)].map(([name, series]) => ({
    name,
    lines: series.map((info, at) => ({
      runId,
      info,
      label: contextTitle(info.context) || name,
      color: indexColor(at),
      dash: DASHES[Math.floor(at / PALETTE.length) % DASHES.length] ?? [],
      startMs: start,
      axis: axisNumber(all, info, axis),
    })),
  }));
  return inOrder(groups);
}

/**
 * The charts of several runs. Each run has its own color on every page, or that of its group, and each context its own
 * dashes.
 */
export function projectCharts(runs: readonly Run[], { axis, groupOf }: ChartOptions = {}): ChartGroup[] {
  const contexts = new Map<string, string[]>();
  const order = new Intl.Collator('en', { numeric: true });
  const groups = groupOf ? [...new Set(runs.map(groupOf))].sort(order.compare) : [];
  const lines = runs.flatMap(run => {
    const { runId, props, series } = run;
    const group = groupOf?.(run);
    return series.map((info): ChartLine => {
      const known = contexts.get(info.name) ?? [];
      if (!known.includes(info.context)) contexts.set(info.name, [...known, info.context]);
      const number = contexts.get(info.name)?.indexOf(info.context) ?? 0;
      return {
        runId,
        info,
        label: `${props?.name || runId} ${contextTitle(info.context)}`.trimEnd(),
        color: group === undefined ? runColor(runId) : indexColor(groups.indexOf(group)),
        dash: DASHES[number % DASHES.length] ?? [],
        startMs: props ? startMs(props) : 0,
        axis: axisNumber(series, info, axis),
        group,
      };
    });
  });
  return inOrder([...groupBy(lines, ({ info }) => info.name)].map(([name, lines]) => ({ name, lines })));
}

/** By name, numbers in names by value; metrics of the machine come last. */
function inOrder(groups: ChartGroup[]): ChartGroup[] {
  const order = new Intl.Collator('en', { numeric: true });
  const isSystem = ({ name }: ChartGroup): number => (name.startsWith(SYSTEM_PREFIX) ? 1 : 0);
  return groups.sort((a, b) => isSystem(a) - isSystem(b) || order.compare(a.name, b.name));
}

/** Names that contain the text, or match it as a regular expression if it is written as `/text/`. */
export function filterGroups(groups: readonly ChartGroup[], text: string): ChartGroup[] {
  const wanted = text.trim();
  if (wanted === '') return [...groups];
  const expression = /^\/(.+)\/$/.exec(wanted)?.[1];
  if (expression !== undefined) {
    try {
      const pattern = new RegExp(expression, 'i');
      return groups.filter(({ name }) => pattern.test(name));
    } catch {
      // An expression is often incomplete while it is typed.
      return [];
    }
  }
  return groups.filter(({ name }) => name.toLowerCase().includes(wanted.toLowerCase()));
}
