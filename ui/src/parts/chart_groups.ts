/** Metrics as charts: one chart for each name, with a line for each run and context. */
import { contextTitle, isSystemMetric, plainContext } from '../format/context.ts';
import { importance, xAxisOf } from '../format/goals.svelte.ts';
import type { Run, SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { milliseconds } from '../format/time.ts';
import { byName, groupBy, hasText } from '../collections.ts';
import { DASHES, indexColor, PALETTE, placeColors, type PaletteColor } from '../plot/palette.ts';
import { byAge, type AgedRun } from '../state/document_colors.ts';

export interface ChartLine {
  runId: string;
  /** The run, if the charts have the lines of several runs. */
  owner?: string | undefined;
  info: SeriesInfo;
  label: string;
  color: PaletteColor;
  dash: readonly number[];
  /** Start of the run in milliseconds since 1970, for times since then. */
  startMs: number;
  /** Number of the series that is the x axis, if another metric is. */
  axis?: number | undefined;
  /**
   * Title of the group that gives the line its color, and of the group that gives the line its
   * dashes.
   */
  group?: string | undefined;
  stroke?: string | undefined;
  forks: readonly Fork[];
}

/** A step at which a branch leaves its parent, and a text that names both. */
export interface Fork {
  step: number;
  text: string;
}

/**
 * The steps where a run leaves its parent, and where branches leave the run; `all` has the run and
 * its relatives.
 */
export function forksOf(runId: string, all: readonly Run[]): Fork[] {
  const nameOf = (id: string): string => all.find(one => one.runId === id)?.props?.name || id;
  return all.flatMap(one => {
    const parent = one.props?.parent;
    if (parent?.step === undefined || ![one.runId, parent.runId].includes(runId)) return [];
    const text = `${nameOf(one.runId)} branches from ${nameOf(parent.runId)} after step ${parent.step}`;
    return [{ step: Number(parent.step), text }];
  });
}

type TitleOf = ((run: Run) => string) | undefined;

export interface ChartOptions {
  /** The colors of the runs; absent: the runs have no colors on other pages. */
  colors?: RunColors;
  /** The metric that is the x axis of all charts; undefined: the metric that is stated for each. */
  axis?: string | undefined;
  /** Returns the group that gives a run its color; undefined: the run itself. */
  groupOf?: TitleOf;
  /** Returns the group that gives a run its dashes; undefined: the context. */
  strokeOf?: TitleOf;
  /** Returns the group that selects the chart of a run, in addition to the name of the metric. */
  chartOf?: TitleOf;
}

export interface ChartGroup {
  name: string;
  lines: ChartLine[];
}

/** The series of a metric in the context of another series, or without a context. */
function axisNumber(all: readonly SeriesInfo[], { context }: SeriesInfo, name: string | undefined) {
  const own = name ? all.filter(one => one.name === name) : [];
  return (
    own.find(one => one.context === context) ?? own.find(one => plainContext(one.context) === '')
  )?.number;
}

function titlesOf(runs: readonly Run[], of: TitleOf): string[] {
  return of ? [...new Set(runs.map(of))].sort(byName) : [];
}

/** The id by which a group gets its color, as a run does by its own. */
export function groupId(title: string): string {
  return `group ${title}`;
}

/**
 * One chart with the lines of several. The metric of a line is its stroke, which labels have. Lines of different metrics
 * differ by their dashes; if all are of one run, by their colors.
 */
export function mergedChart(name: string, charts: readonly ChartGroup[]): ChartGroup {
  if (charts.length === 1) return { name, lines: charts.flatMap(({ lines }) => lines) };
  const runs = new Set(charts.flatMap(({ lines }) => lines.map(({ runId }) => runId)));
  const lines = charts.flatMap((chart, at) =>
    chart.lines.map(line => ({
      ...line,
      label: line.label === chart.name ? '' : line.label,
      stroke: titleOf(chart.name, line.stroke),
      ...(runs.size === 1 && line.group === undefined
        ? { color: indexColor(at) }
        : { dash: DASHES[at % DASHES.length] ?? [] }),
    })),
  );
  return { name, lines };
}

type RunColors = ReadonlyMap<string, PaletteColor>;

/** The colors of runs that are shown together in charts without a workspace. */
function separateColors(runIds: readonly string[]): RunColors {
  const places = placeColors(runIds, new Map(), new Map());
  return new Map([...places].map(([id, place]) => [id, indexColor(place)]));
}

/**
 * The colors of the lines of each run: its own color, or the color of its group. `colorsOf` finds the
 * colors of runs or groups, the oldest first.
 */
export function lineColors(
  runs: readonly Run[],
  groupOf?: TitleOf,
  colorsOf: (ids: readonly string[]) => RunColors = separateColors,
): RunColors {
  const aged = colored(runs, groupOf).sort(byAge);
  const colors = colorsOf(aged.map(({ runId }) => runId));
  if (!groupOf) return colors;
  const colorOf = (run: Run): PaletteColor => colors.get(groupId(groupOf(run))) as PaletteColor;
  return new Map(runs.map(run => [run.runId, colorOf(run)]));
}

/**
 * Everything that has its own color: each run, or each group, which is as old as its oldest run.
 */
export function colored(runs: readonly Run[], groupOf?: TitleOf): AgedRun[] {
  const oldest = new Map<string, bigint>();
  for (const run of runs) {
    const id = groupOf ? groupId(groupOf(run)) : run.runId;
    const createdUs = run.props?.createdUs ?? 0n;
    const known = oldest.get(id);
    if (known === undefined || createdUs < known) oldest.set(id, createdUs);
  }
  return [...oldest].map(([runId, createdUs]) => ({ runId, createdUs }));
}

/**
 * The contexts of each metric by their texts, whichever run has them first: a new run does not change
 * the dashes of others.
 */
function contextsOf(runs: readonly Run[]): ReadonlyMap<string, string[]> {
  const found = new Map<string, Set<string>>();
  for (const { name, context } of runs.flatMap(({ series }) => series)) {
    const own = found.get(name) ?? new Set();
    found.set(name, own.add(context));
  }
  return new Map([...found].map(([name, contexts]) => [name, [...contexts].sort()]));
}

/**
 * The charts of several runs. Colors distinguish runs or groups; dashes distinguish contexts, or
 * groups of runs.
 */
export function projectCharts(
  runs: readonly Run[],
  { colors: given, axis, groupOf, strokeOf, chartOf }: ChartOptions = {},
): ChartGroup[] {
  const contexts = contextsOf(runs);
  const colors = given ?? lineColors(runs, groupOf);
  const strokes = titlesOf(runs, strokeOf);
  const charts = new Map<string, ChartLine[]>();
  for (const run of runs) {
    const { runId, props, series } = run;
    const group = groupOf?.(run);
    const stroke = strokeOf?.(run);
    const chart = chartOf?.(run);
    for (const info of series) {
      const context = contexts.get(info.name)?.indexOf(info.context) ?? 0;
      const number = stroke === undefined ? context : strokes.indexOf(stroke);
      const name = chart === undefined ? info.name : `${info.name} · ${chart || 'none'}`;
      const own = charts.get(name) ?? [];
      charts.set(name, own);
      own.push({
        runId,
        owner: runId,
        info,
        label: `${props?.name || runId} ${contextTitle(info.context)}`.trimEnd(),
        color: colors.get(runId) as PaletteColor,
        dash: DASHES[number % DASHES.length] ?? [],
        // By the clock that the points have; the server's may differ.
        startMs: milliseconds(props?.clientStartedUs ?? props?.createdUs ?? 0n),
        axis: axisNumber(series, info, axis ?? xAxisOf(info.name)),
        group,
        stroke,
        forks: forksOf(runId, runs),
      });
    }
  }
  return inOrder([...charts].map(([name, lines]) => ({ name, lines })));
}

/**
 * The charts of a run and its family, which has the parent and the branches. The first context has
 * the color of the run, and every other context its own color.
 */
export function runCharts(
  run: Run,
  family: readonly Run[] = [],
  axis?: string,
  color = indexColor(0),
): ChartGroup[] {
  const colors = [color, ...PALETTE.filter(other => other !== color)];
  const forks = forksOf(run.runId, [run, ...family]);
  return projectCharts([run], { axis }).map(({ name, lines }) => ({
    name,
    lines: lines.map((line, at) => ({
      ...line,
      owner: undefined,
      label: contextTitle(line.info.context) || name,
      color: colors[at % colors.length] as PaletteColor,
      dash: DASHES[Math.floor(at / PALETTE.length) % DASHES.length] ?? [],
      forks,
    })),
  }));
}

export function groupOwner(group: string | undefined, stroke: string | undefined): string {
  return `group ${group} ${stroke}`;
}

export function titleOf(...parts: (string | undefined)[]): string {
  return parts.filter(Boolean).join(' · ');
}

/** Results first, then by name, numbers in names by value; metrics of the machine come last. */
function inOrder(groups: ChartGroup[]): ChartGroup[] {
  const rank = ({ name }: ChartGroup): number => (isSystemMetric(name) ? -1 : importance(name));
  return groups.sort((a, b) => rank(b) - rank(a) || byName(a.name, b.name));
}

/** Charts whose names have the same part, such as `grad/`. */
export interface ChartSection {
  /** The part; empty for names of one part. */
  title: string;
  groups: ChartGroup[];
}

/**
 * If there are more sections than this, only the sections with the first charts are open at first:
 * no one reads hundreds of charts one by one.
 */
const MANY_SECTIONS = 20;
const FIRST_CHARTS = 12;

const PARTS = {
  /** `grad` of `grad/layer0/weight`. */
  first: (name: string) => /^[^/]+(?=\/)/.exec(name)?.[0] ?? '',
  /** `weight` of `grad/layer0/weight`. */
  last: (name: string) => /(?<=\/)[^/]+$/.exec(name)?.[0] ?? '',
  none: () => '',
};

/** Names of one part come first. */
export function chartSections(
  groups: readonly ChartGroup[],
  by: keyof typeof PARTS = 'first',
): ChartSection[] {
  const part = ({ name }: ChartGroup): string =>
    by !== 'none' && isSystemMetric(name) ? 'System' : PARTS[by](name);
  const sections = [...groupBy(groups, part)].map(([title, groups]) => ({ title, groups }));
  return sections.sort((a, b) => Number(a.title !== '') - Number(b.title !== ''));
}

/** The titles of the closed sections. A click on a section inverts its state. */
export function closedSections(
  sections: readonly ChartSection[],
  fold: 'auto' | 'closed' | 'open',
  clicked: readonly string[],
): Set<string> {
  let charts = 0;
  const ends = sections.map(({ groups }) => (charts += groups.length));
  const isLate = (at: number): boolean => at > 0 && (ends[at] ?? 0) > FIRST_CHARTS;
  const isClosed = (at: number): boolean =>
    fold === 'closed' || (fold === 'auto' && sections.length > MANY_SECTIONS && isLate(at));
  return new Set(
    sections.flatMap(({ title }, at) =>
      title !== '' && clicked.includes(title) !== isClosed(at) ? [title] : [],
    ),
  );
}

/**
 * Names that contain the text, or match it as a regular expression if it is written as `/text/`.
 */
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
  return groups.filter(({ name }) => hasText(name, wanted));
}

/** A pattern for the metrics that `filterGroups` finds by a text. */
export function patternOf(text: string): string {
  const wanted = text.trim();
  return /^\/(.+)\/$/.test(wanted) ? wanted : `/${escaped(wanted)}/`;
}

function escaped(text: string): string {
  return text.replace(/[^\w\s-]/g, '\\$&');
}

export function exactly(name: string): string {
  return `/^${escaped(name)}$/`;
}
