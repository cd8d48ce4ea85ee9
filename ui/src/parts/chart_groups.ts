/** Metrics as charts: one for each name, with a line for each run and context. */
import { contextTitle, SYSTEM_PREFIX } from '../format/context.ts';
import type { Props, Run, SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { milliseconds } from '../format/time.ts';
import { groupBy } from '../group_by.ts';
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
}

export interface ChartGroup {
  name: string;
  lines: ChartLine[];
}

/** Start of a run by the clock that its points have; the server's clock may differ. */
export function startMs({ clientStartedUs, createdUs }: Props): number {
  return milliseconds(clientStartedUs ?? createdUs);
}

/** The charts of one run. Each context has its own color. */
export function runCharts(runId: string, start: number, all: readonly SeriesInfo[]): ChartGroup[] {
  const groups = [...groupBy(all, ({ name }) => name)].map(([name, series]) => ({
    name,
    lines: series.map((info, at) => ({
      runId,
      info,
      label: contextTitle(info.context) || name,
      color: indexColor(at),
      dash: DASHES[Math.floor(at / PALETTE.length) % DASHES.length] ?? [],
      startMs: start,
    })),
  }));
  return inOrder(groups);
}

/** The charts of several runs. Each run has its own color on every page, and each context its own dashes. */
export function projectCharts(runs: readonly Run[]): ChartGroup[] {
  const contexts = new Map<string, string[]>();
  const lines = runs.flatMap(({ runId, props, series }) =>
    series.map((info): ChartLine => {
      const known = contexts.get(info.name) ?? [];
      if (!known.includes(info.context)) contexts.set(info.name, [...known, info.context]);
      const number = contexts.get(info.name)?.indexOf(info.context) ?? 0;
      return {
        runId,
        info,
        label: `${props?.name || runId} ${contextTitle(info.context)}`.trimEnd(),
        color: runColor(runId),
        dash: DASHES[number % DASHES.length] ?? [],
        startMs: props ? startMs(props) : 0,
      };
    }),
  );
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
