/** Axes of params and metrics: the values of all runs in a column, as places between 0 and 1. */
import { readable } from '../../format/number.ts';
import { isNumber, plainText } from '../../format/value.ts';
import { hasModifier } from '../../parts/local_keys.ts';
import { Axis, padded, type Extent, type Tick } from '../../plot/axis.ts';
import { columnText, columnTitle, valueIn, type DataColumn } from '../runs/columns.ts';
import type { RunRow } from '../runs/search.ts';
import { ranks } from './statistics.ts';

export interface ParamAxis {
  column: DataColumn;
  text: string;
  title: string;
  /**
   * Values that are not numbers, in order; `values` are then places in this list. Empty for
   * numbers.
   */
  categories: string[];
  /** A value for each run; NaN: the run has none. */
  values: Float64Array;
  /** From 0 at the lowest value to 1 at the highest that is no outlier. */
  axis: Axis;
  /** For each run, −1 or 1 if its value is an outlier at the low or the high end of the axis, or 0. */
  outliers: Int8Array;
  /** Whether all values are numbers above zero. */
  canBeLog: boolean;
  /** Whether the reader chose the ends of the axis. */
  isLimited: boolean;
}

/** How axes are scaled. Without a choice of the reader, params are scaled by their values only. */
export interface AxisScale {
  /** The axes of metrics reach to the outliers, too. */
  isWhole: boolean;
  /** The axes of metrics are logarithmic if all values are above zero. */
  isLog: boolean;
  /** Ends of axes by the texts of their columns; values beyond are off the scale. */
  limits?: ReadonlyMap<string, Extent>;
  /** Whether an axis is logarithmic, by the text of its column. */
  logs?: ReadonlyMap<string, boolean>;
}

/** Quartiles of fewer values say little. */
const MIN_VALUES = 8;
/** Values are outliers from this number of interquartile ranges beyond the quartiles on. */
const FENCE = 3;

/** The extent of the values that are no outliers. */
function withoutOutliers(values: Float64Array, isLog: boolean): Extent {
  const order = values.map(value => (isLog ? Math.log(value) : value)).sort();
  const at = (share: number): number => order[Math.round(share * (order.length - 1))] as number;
  const range = at(0.75) - at(0.25);
  const inside = order.filter(
    value => value >= at(0.25) - FENCE * range && value <= at(0.75) + FENCE * range,
  );
  const isKnown = order.length >= MIN_VALUES && range > 0;
  const kept = isKnown ? inside : order;
  const back = (value: number | undefined): number =>
    isLog ? Math.exp(value ?? NaN) : (value ?? NaN);
  return { low: back(kept[0]), high: back(kept.at(-1)) };
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
const RUN_STEPS: Record<string, number> = {
  ArrowRight: 1,
  ArrowLeft: -1,
  PageDown: 10,
  PageUp: -10,
};
/** Values that spread over more than this factor get a logarithmic axis. */
const LOG_FACTOR = 50;
const MAX_TICKS = 24;
/** More different numbers are a range. */
const MAX_VALUE_TICKS = 6;
const MAX_VALUE_CHARS = 6;
/** Share of an axis that a text needs. */
const MIN_TICK_GAP = 0.05;
const CHAR_PX = 7;

export function paramAxis(
  column: DataColumn,
  rows: readonly RunRow[],
  scale: AxisScale = { isWhole: true, isLog: false },
  title = columnTitle(column),
): ParamAxis {
  const all = rows.map(row => valueIn(row, column));
  const isNumeric = all.every(value => value === undefined || isNumber(value));
  const texts = isNumeric
    ? []
    : all.map(value => (value === undefined ? undefined : plainText(value)));
  const categories = [...new Set(texts.filter(text => text !== undefined))].sort();
  const places = new Map(categories.map((text, at) => [text, at]));
  const values = Float64Array.from(all, (value, at) => {
    const number = isNumeric ? Number(value ?? NaN) : (places.get(texts[at] ?? '') ?? NaN);
    return Number.isFinite(number) ? number : NaN;
  });
  const known = values.filter(value => !Number.isNaN(value));
  const extent = { low: Math.min(...known), high: Math.max(...known) };
  const isMetric = column.kind === 'metric';
  const isRobust = isMetric && isNumeric && !scale.isWhole && known.length > 0;
  const usual = isRobust ? withoutOutliers(known, false) : extent;
  const isWide = usual.high / usual.low > LOG_FACTOR;
  const canBeLog = isNumeric && extent.low > 0;
  const text = columnText(column);
  const limit = isNumeric ? scale.limits?.get(text) : undefined;
  const wantsLog = scale.logs?.get(text) ?? (isWide || (isMetric && scale.isLog));
  const isLog = canBeLog && wantsLog && !(limit && limit.low <= 0);
  const kept = limit ?? (isRobust && isLog ? withoutOutliers(known, true) : usual);
  // The logarithm and back is not exact.
  const slack = 1e-9 * Math.max(Math.abs(kept.low), Math.abs(kept.high));
  const outliers = Int8Array.from(values, value =>
    value < kept.low - slack ? -1 : value > kept.high + slack ? 1 : 0,
  );
  const shown = isNumeric
    ? (limit ?? padded(kept, isLog))
    : { low: -0.5, high: Math.max(categories.length, 1) - 0.5 };
  const axis = new Axis(shown, 0, 1, isLog);
  return {
    column,
    text,
    title,
    categories,
    values,
    axis,
    outliers,
    canBeLog,
    isLimited: limit !== undefined,
  };
}

/** The index of a run, which changes when another run arrives; undefined: none of the rows has it. */
export function indexOfRun(rows: readonly RunRow[], runId: string | undefined): number | undefined {
  const at = rows.findIndex(({ run }) => run.runId === runId);
  return at < 0 ? undefined : at;
}

/** The place of a value between 0 and 1; outliers are at the ends. */
export function placeOf({ axis }: ParamAxis, value: number): number {
  return Math.min(Math.max(axis.toPixel(value), 0), 1);
}

/** The place of an end of a range. A logarithmic axis begins above zero. */
export function endPlace(axis: ParamAxis, value: number): number {
  if (value === Infinity) return 1;
  if (value === -Infinity || (axis.axis.isLog && value <= 0)) return 0;
  return placeOf(axis, value);
}

/** Moves a plot from run to run in the order of `runs`, and opens the current run. */
export function pressKey(
  event: KeyboardEvent,
  runs: readonly number[],
  { hovered = -1, onhover, onopen }: Pick<PlotProps, 'hovered' | 'onhover' | 'onopen'>,
): void {
  if (hasModifier(event)) return;
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

/** The values themselves, if a param has only a few short numbers, which are apart from each other. */
function fewTicks({ column, values, axis }: ParamAxis): Tick[] | undefined {
  if (column.kind !== 'param') return undefined;
  const different = [...new Set(values)].filter(Number.isFinite).sort((a, b) => a - b);
  if (different.length === 0 || different.length > MAX_VALUE_TICKS) return undefined;
  const places = different.map(value => axis.toPixel(value));
  const isApart = places.every((place, at) => at === 0 || place - places[at - 1]! > MIN_TICK_GAP);
  const isInside = places.every(place => place >= 0 && place <= 1);
  const ticks = different.map(value => ({ value, label: readable(value) }));
  const isShort = ticks.every(({ label }) => label.length <= MAX_VALUE_CHARS);
  return isApart && isInside && isShort ? ticks : undefined;
}

/** Texts are shortened to `room` pixels. */
export function axisTicks(own: ParamAxis, count: number, room: number): Tick[] {
  const { axis, categories } = own;
  if (categories.length === 0) return fewTicks(own) ?? axis.ticks(count);
  const most = Math.max(2, Math.floor(room / CHAR_PX));
  const step = Math.ceil(categories.length / Math.min(count * 2, MAX_TICKS));
  const fitted = (text: string): string =>
    text.length > most ? `${text.slice(0, most - 1)}…` : text;
  return categories
    .map((text, value) => ({ value, label: fitted(text) }))
    .filter((_, at) => at % step === 0);
}

export function valueText({ categories }: ParamAxis, value: number): string {
  if (Number.isNaN(value)) return '–';
  return categories.length > 0 ? (categories[Math.round(value)] ?? '') : readable(value);
}

/**
 * A color from blue at 0 over gray to orange at 1, which people with any color vision can
 * distinguish. NaN is gray.
 */
export function rampColor(place: number): string {
  if (Number.isNaN(place)) return 'var(--ramp-middle)';
  const end = place < 0.5 ? 'var(--ramp-low)' : 'var(--ramp-high)';
  return `color-mix(in oklab, ${end} ${Math.round(200 * Math.abs(place - 0.5))}%, var(--ramp-middle))`;
}

/**
 * The colors of runs by the ranks of their values: by the values, a single one far away would leave
 * one color to all others. If all values are equal, none is low or high.
 */
export function rankColors(values: Float64Array): string[] {
  const places = ranks(values);
  const known = places.filter(place => !Number.isNaN(place));
  const low = Math.min(...known);
  const high = Math.max(...known);
  return Array.from(places, place => rampColor((place - low) / (high - low)));
}
