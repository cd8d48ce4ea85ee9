/** Axes of params and metrics: the values of all runs in a column, as places between 0 and 1. */
import { readable } from '../../format/number.ts';
import { isNumber, plainText } from '../../format/value.ts';
import { Axis, padded, type Tick } from '../../plot/axis.ts';
import { columnText, columnTitle, valueIn, type DataColumn } from '../runs/columns.ts';
import type { RunRow } from '../runs/table.svelte.ts';
import { groupCorrelation, rankCorrelation, type Correlation } from './statistics.ts';

export interface ParamAxis {
  column: DataColumn;
  text: string;
  title: string;
  /** What is not a number, in order; `values` are then places in it. Empty for numbers. */
  categories: string[];
  /** One for each run; NaN: none. */
  values: Float64Array;
  /** From 0 at the lowest value to 1 at the highest. */
  axis: Axis;
}

/** Props of both plots of runs, with a value for each run. */
export interface PlotProps {
  colors: readonly string[];
  inside: readonly boolean[];
  hovered: number | undefined;
  onhover: (run: number | undefined) => void;
  onopen: () => void;
}

/** By how many runs a key moves. */
const RUN_STEPS: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 };
/** Values that spread over more than this factor get a logarithmic axis. */
const LOG_FACTOR = 50;
const [MAX_TICKS, CHAR_PX] = [24, 7];

export function paramAxis(column: DataColumn, rows: readonly RunRow[]): ParamAxis {
  const all = rows.map(row => valueIn(row, column));
  const isNumeric = all.every(value => value === undefined || isNumber(value));
  const texts = isNumeric ? [] : all.map(value => (value === undefined ? undefined : plainText(value)));
  const categories = [...new Set(texts.filter(text => text !== undefined))].sort();
  const places = new Map(categories.map((text, at) => [text, at]));
  const values = Float64Array.from(all, (value, at) => {
    const number = isNumeric ? Number(value ?? NaN) : (places.get(texts[at] ?? '') ?? NaN);
    return Number.isFinite(number) ? number : NaN;
  });
  const known = values.filter(value => !Number.isNaN(value));
  const extent = { low: Math.min(...known), high: Math.max(...known) };
  const isLog = isNumeric && extent.low > 0 && extent.high / extent.low > LOG_FACTOR;
  const shown = isNumeric ? padded(extent, isLog) : { low: -0.5, high: Math.max(categories.length, 1) - 0.5 };
  const axis = new Axis(shown, 0, 1, isLog);
  return { column, text: columnText(column), title: columnTitle(column), categories, values, axis };
}

/** Moves a plot from run to run in the order of `runs`, and opens the one that it has come to. */
export function pressKey(
  event: KeyboardEvent,
  runs: readonly number[],
  { hovered = -1, onhover, onopen }: Pick<PlotProps, 'hovered' | 'onhover' | 'onopen'>,
): void {
  const at = runs.indexOf(hovered);
  if (event.key === 'Enter' && at >= 0) return onopen();
  const by = RUN_STEPS[event.key];
  if (by === undefined) return;
  event.preventDefault();
  const next = at >= 0 ? at + by : by > 0 ? 0 : runs.length - 1;
  onhover(runs[Math.max(0, Math.min(next, runs.length - 1))]);
}

/** Width of the longest text of an axis of categories. */
export const textsPx = (axis?: ParamAxis): number =>
  CHAR_PX * Math.max(0, ...(axis?.categories ?? []).map(({ length }) => length));

/** Texts are shortened to `room` pixels. */
export function axisTicks({ axis, categories }: ParamAxis, count: number, room: number): Tick[] {
  if (categories.length === 0) return axis.ticks(count);
  const most = Math.max(2, Math.floor(room / CHAR_PX));
  const step = Math.ceil(categories.length / Math.min(count * 2, MAX_TICKS));
  const fitted = (text: string): string => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  return categories.map((text, value) => ({ value, label: fitted(text) })).filter((_, at) => at % step === 0);
}

export function valueText({ categories }: ParamAxis, value: number): string {
  if (Number.isNaN(value)) return '–';
  return categories.length > 0 ? (categories[Math.round(value)] ?? '') : readable(value);
}

/** Columns by how much a metric depends on them. Texts with more than two values have no order, so they are groups. */
export function dependences(
  metric: ParamAxis,
  columns: readonly ParamAxis[],
): (Correlation & { axis: ParamAxis })[] {
  return columns
    .map(axis => {
      const correlation = axis.categories.length > 2 ? groupCorrelation : rankCorrelation;
      return { axis, ...correlation(axis.values, metric.values) };
    })
    .filter(({ rho }) => !Number.isNaN(rho))
    .sort((a, b) => Math.abs(b.rho) - Math.abs(a.rho));
}

/** From blue at 0 over gray to orange at 1: told apart by people with any color vision. NaN is gray. */
export function rampColor(place: number): string {
  if (Number.isNaN(place)) return 'var(--ramp-middle)';
  const end = place < 0.5 ? 'var(--ramp-low)' : 'var(--ramp-high)';
  return `color-mix(in oklab, ${end} ${Math.round(200 * Math.abs(place - 0.5))}%, var(--ramp-middle))`;
}
