/**
 * * Lines from buckets. At most two points are drawn per column of device pixels, the minimum and
 * the maximum of all points in it, so no setting can hide a spike: smoothing is drawn on top of the
 * raw line, never instead of it.
 */
import { scratchFor } from '../api/column_memory.ts';
import { lowerBound, type SeriesData } from '../api/series_data.ts';
import type { Axis } from './axis.ts';
import { HAIRLINE, type Surface } from './surface.ts';

export interface ChartSeries {
  id: string;
  label: string;
  color: string;
  dash?: readonly number[];
  data: SeriesData;
  x: Float64Array;
  smooth?: Float64Array;
  area?: { low: Float64Array; high: Float64Array };
  /** The run or the group of the line, which may also have lines in other charts. */
  owner?: string | undefined;
  /** Owners of the lines of a group. */
  members?: ReadonlySet<string | undefined>;
  /** A line of a band: drawn thin below everything else, and not part of the tooltip. */
  isMember?: boolean;
  /** Places on the x axis where a branch leaves its parent. */
  forks?: readonly { x: number; text: string }[];
}

/**
 * Up to this many series are drawn with wide lines; more would take ten times as long as hairlines.
 */
const MAX_WIDE = 12;
const WIDE_PX = 1.5;
export const HIGHLIGHT_PX = 2.5;
/** Widths that a reader can choose; `auto` depends on the number of lines. */
export const LINE_PX = { auto: undefined, thin: HAIRLINE, medium: WIDE_PX, thick: 3 };
/** Opacity of raw lines under smoothed lines, for a few lines and for many. */
const RAW_ALPHA = 0.35;
const DENSE_RAW_ALPHA = 0.2;
const BAND_ALPHA = 0.18;
/** Opacity of the bands of up to `FULL_BANDS` groups, which overlap. */
const GROUP_ALPHA = 0.13;
const FULL_BANDS = 3;
/** More bands are fainter, or their colors would become one where they overlap. */
const FAINTEST_ALPHA = 0.05;
const MEMBER_ALPHA = 0.22;
const MARK_PX = 4;
/** Points of marks around their center, x and y in turn. */
const CROSS = [-3, -3, 3, 3, NaN, NaN, -3, 3, 3, -3];
const UP = [0, -4, 4, 3.2, -4, 3.2];
const DOWN = UP.map(part => -part);
const FORK_DASH = [3, 3];
/** Points of a series that is smoothed point by point, and number of parts of a longer series. */
const SMOOTH_UNITS = 200;
/** Radius of a point without neighbors, next to half of the width of its line. */
export const LONE_PX = 2.25;

export function lineWidth(seriesCount: number): number {
  return seriesCount <= MAX_WIDE ? WIDE_PX : HAIRLINE;
}

const ascending = new WeakMap<Float64Array, boolean>();

/** Steps ascend. Times need not: two processes with different clocks may log to the same series. */
export function isAscending(x: Float64Array): boolean {
  let known = ascending.get(x);
  if (known === undefined) {
    known = x.every((value, at) => at === 0 || value >= (x[at - 1] as number));
    ascending.set(x, known);
  }
  return known;
}

/** The buckets in view, and the next bucket on each side, so that the line reaches the frame. */
export function visible({ x }: ChartSeries, axis: Axis): [first: number, end: number] {
  if (!isAscending(x)) return [0, x.length];
  const first = Math.max(0, lowerBound(x, axis.extent.low) - 1);
  return [first, Math.min(x.length, lowerBound(x, axis.extent.high) + 1)];
}

/** Pixels, x and y in turn, and the number of points. */
type Points = [pixels: Float64Array, count: number];

/**
 * Writes the line of minimum and maximum per column of device pixels; returns the number of points.
 */
export function tracePoints(series: ChartSeries, x: Axis, y: Axis, ratio: number): Points {
  const [first, end] = visible(series, x);
  const points = scratchFor(4 * (end - first) + 4);
  const { min, max } = series.data;
  let count = 0;
  let column = NaN;
  let low = NaN;
  let high = NaN;
  let at = 0;
  const put = (px: number, py: number): void => {
    points[2 * count] = px;
    points[2 * count + 1] = py;
    count += 1;
  };
  const flush = (): void => {
    if (Number.isNaN(column)) return;
    if (low === high) return put(at, low);
    // The nearer end first: the line then has no extra stroke across the column.
    const before = count > 0 ? (points[2 * count - 1] as number) : high;
    const isLowFirst = Math.abs(before - low) < Math.abs(before - high);
    put(at, isLowFirst ? low : high);
    put(at, isLowFirst ? high : low);
  };
  for (let index = first; index < end; index++) {
    const px = x.toPixel(series.x[index] as number);
    const top = y.toPixel(max[index] as number);
    let bottom = y.toPixel(min[index] as number);
    // Zero and less are below the frame of a logarithmic axis.
    if (Number.isNaN(bottom) && !Number.isNaN(top)) bottom = y.from + 1;
    const own = Math.round(px * ratio);
    if (own === column && !Number.isNaN(top) && !Number.isNaN(low)) {
      low = Math.max(low, bottom);
      high = Math.min(high, top);
    } else {
      flush();
      column = own;
      at = px;
      low = bottom;
      high = top;
    }
  }
  flush();
  return [points, count];
}

function smoothPoints(series: ChartSeries, smooth: Float64Array, x: Axis, y: Axis): Points {
  const [first, end] = visible(series, x);
  const points = scratchFor(2 * (end - first));
  for (let index = first; index < end; index++) {
    points[2 * (index - first)] = x.toPixel(series.x[index] as number);
    points[2 * (index - first) + 1] = y.toPixel(smooth[index] as number);
  }
  return [points, end - first];
}

export function drawSeries(
  surface: Surface,
  series: ChartSeries,
  x: Axis,
  y: Axis,
  width: number,
): void {
  const { color, dash, smooth, isMember } = series;
  const raw = tracePoints(series, x, y, surface.ratio);
  if (isMember) return surface.polyline(...raw, { color, width: HAIRLINE, alpha: MEMBER_ALPHA });
  for (const { x: place } of series.forks ?? []) {
    const at = x.toPixel(place);
    if (Number.isFinite(at))
      surface.segment(at, y.to, at, y.from, { color, width: 1, dash: FORK_DASH });
  }
  const style = { color, width, ...(dash && { dash }) };
  const alpha = width === HAIRLINE ? DENSE_RAW_ALPHA : RAW_ALPHA;
  surface.polyline(...raw, smooth ? { color, width: HAIRLINE, alpha } : style);
  const shown = smooth ? smoothPoints(series, smooth, x, y) : raw;
  if (smooth) surface.polyline(...shown, style);
  drawDots(surface, shown, x, color, LONE_PX + width / 2);
}

/** Points in view without a neighbor, which no line shows. */
function drawDots(
  surface: Surface,
  [points, count]: Points,
  x: Axis,
  color: string,
  size: number,
): void {
  const isGap = (at: number): boolean =>
    at < 0 || at >= count || Number.isNaN(points[2 * at]) || Number.isNaN(points[2 * at + 1]);
  for (let at = 0; at < count; at++) {
    const px = points[2 * at] as number;
    if (px > x.from - 0.5 && px < x.to + 0.5 && !isGap(at) && isGap(at - 1) && isGap(at + 1))
      surface.dot(px, points[2 * at + 1] as number, size, color);
  }
}

/** The opacity of each of several bands of groups. */
function groupAlpha(bands: number): number {
  return Math.max(FAINTEST_ALPHA, (GROUP_ALPHA * FULL_BANDS) / Math.max(FULL_BANDS, bands));
}

/**
 * Fills the area between minimum and maximum, where buckets have more than one point. `bands` is the
 * number of the bands of groups.
 */
export function drawBand(surface: Surface, series: ChartSeries, x: Axis, y: Axis, bands = 1): void {
  const [first, end] = visible(series, x);
  const { low, high } = series.area ?? { low: series.data.min, high: series.data.max };
  if ((series.data.width === 1 && !series.area) || end - first < 2 || series.isMember) return;
  const points = scratchFor(4 * (end - first));
  let count = 0;
  const side = (values: Float64Array, index: number): void => {
    const px = x.toPixel(series.x[index] as number);
    const py = y.toPixel(values[index] as number);
    if (Number.isNaN(py)) return;
    points[2 * count] = px;
    points[2 * count + 1] = py;
    count += 1;
  };
  for (let index = first; index < end; index++) side(high, index);
  for (let index = end - 1; index >= first; index--) side(low, index);
  if (count > 2)
    surface.area(points, count, series.color, series.area ? groupAlpha(bands) : BAND_ALPHA);
}

/** Marks values that have no place on the axis: NaN and −∞ at the bottom, +∞ at the top. */
export function drawMarks(surface: Surface, series: ChartSeries, x: Axis, y: Axis): void {
  const [first, end] = visible(series, x);
  const { color, data } = series;
  const { nan, positiveInfinity, negativeInfinity } = data;
  const gap = MARK_PX + 2;
  for (let index = first; index < end; index++) {
    const px = x.toPixel(series.x[index] as number);
    const placed = (shape: readonly number[], py: number): Float64Array =>
      Float64Array.from(shape, (part, at) => (at % 2 === 0 ? px : py) + part);
    if (nan[index]) surface.polyline(placed(CROSS, y.from - gap), 5, { color, width: WIDE_PX });
    if (positiveInfinity[index]) surface.area(placed(UP, y.to + gap), 3, color, 1);
    if (negativeInfinity[index]) surface.area(placed(DOWN, y.from - gap), 3, color, 1);
  }
}

type Smoothable = Pick<SeriesData, 'width' | 'steps' | 'last'>;

/**
 * Exponential moving average with the bias of its start removed. `weight`, 0 to 1, is the weight of
 * the past: per point, or per 1/200 of the steps of a longer series, so that a weight means the
 * same at every width. `whole` is the series without a zoom: its part before `data` is averaged
 * too, and its steps count.
 */
export function smoothed(data: Smoothable, weight: number, whole: Smoothable = data): Float64Array {
  const [first = NaN, second = NaN] = whole.steps;
  const isShort = whole.width === 1 && whole.steps.length <= SMOOTH_UNITS;
  const unit = isShort ? 0 : ((whole.steps.at(-1) ?? NaN) - first) / SMOOTH_UNITS;
  // The first entry counts as much as the second entry.
  let before = 2 * first - second;
  let average = 0;
  let total = 0;
  const add = (step: number, value: number): number => {
    if (!Number.isFinite(value)) return NaN;
    const past = unit > 0 ? weight ** ((step - before) / unit) : weight;
    average = average * past + value * (1 - past);
    total = total * past + (1 - past);
    before = step;
    return total > 0 ? average / total : NaN;
  };
  const lead = data.steps.length > 0 ? lowerBound(whole.steps, data.steps[0] as number) : 0;
  for (let at = 0; at < lead; at++) add(whole.steps[at] as number, whole.last[at] as number);
  return data.last.map((value, at) => add(data.steps[at] as number, value));
}
