/**
 * A chart as a function of its data: layout, axes and lines, on any surface. Nothing here knows
 * about the page.
 */
import { lowerBound } from '../api/series_data.ts';
import { Axis, padded, withEnds, type AxisKind, type Extent, type Tick } from './axis.ts';
import { xExtent, yExtent } from './extents.ts';
import {
  drawBand,
  drawMarks,
  drawSeries,
  HIGHLIGHT_PX,
  isAscending,
  lineWidth,
  LONE_PX,
  type ChartSeries,
} from './lines.ts';
import { HAIRLINE, type Surface } from './surface.ts';
import type { ChartTheme } from './theme.ts';

export interface ChartModel {
  series: readonly ChartSeries[];
  xKind: AxisKind;
  isLogX: boolean;
  isLogY: boolean;
  /** The y axis ends before values that are far from all others. */
  withoutOutliers?: boolean;
  /** Ends of the y axis that the reader chose. */
  yEnds?: Partial<Extent>;
  /** In pixels; absent: it depends on the number of lines. */
  lineWidth?: number | undefined;
  /** The part of the x axis in view; absent: all of it. */
  zoom?: Partial<Extent> | undefined;
  theme: ChartTheme;
}

export interface Frame {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export interface Layout {
  frame: Frame;
  x: Axis;
  y: Axis;
  xTicks: Tick[];
  yTicks: Tick[];
}

const TOP = 8;
const RIGHT = 10;
const BOTTOM = 22;
const LABEL_GAP = 6;
/** Average width of a character of a label. */
export const CHARACTER_PX = 6.2;
const X_TICK_PX = 80;
const Y_TICK_PX = 36;

/** Room above and below a chart, for the names of its picture. */
export interface Margins {
  above: number;
  below: number;
}

const NO_MARGINS: Margins = { above: 0, below: 0 };

export function layoutChart(
  model: ChartModel,
  width: number,
  height: number,
  margins = NO_MARGINS,
): Layout {
  const top = TOP + margins.above;
  const bottom = Math.max(height - BOTTOM - margins.below, top + 1);
  const xAll = xInView(model);
  const inView = new Axis(xAll, 0, 1, model.isLogX);
  const yAll = padded(
    yExtent(model.series, inView, model.isLogY, model.withoutOutliers),
    model.isLogY,
  );
  const yInView = withEnds(yAll, model.yEnds ?? {}, model.isLogY);
  const y = new Axis(yInView, bottom, top, model.isLogY);
  const yTicks = y.ticks(Math.max(2, Math.floor((bottom - top) / Y_TICK_PX)));
  const longest = Math.max(0, ...yTicks.map(({ label }) => label.length));
  const frame = {
    left: Math.ceil(longest * CHARACTER_PX) + 2 * LABEL_GAP,
    top,
    right: width - RIGHT,
    bottom,
  };
  const x = new Axis(xAll, frame.left, frame.right, model.isLogX, model.xKind);
  const xTicks = x.ticks(Math.max(2, Math.floor((frame.right - frame.left) / X_TICK_PX)));
  return { frame, x, y, xTicks, yTicks };
}

function xInView({ zoom, series, isLogX }: ChartModel): Extent {
  return widened(withEnds(xExtent(series, isLogX), zoom ?? {}, isLogX), isLogX);
}

/**
 * Lines reach the sides of the frame; only an empty or single value gets air, but not before step
 * 0.
 */
function widened({ low, high }: Extent, isLog: boolean): Extent {
  // Step 0 has no place on a logarithmic axis, so the axis starts at the next step.
  if (isLog && low <= 0 && high > 0) return { low: Math.min(1, high / 10), high };
  if (low < high) return { low, high };
  const wide = padded({ low, high }, isLog);
  return low >= 0 ? { low: Math.max(wide.low, 0), high: wide.high } : wide;
}

/** The width of the lines in pixels. */
export function widthOf({ lineWidth: chosen, series }: ChartModel): number {
  return chosen ?? lineWidth(series.filter(({ isMember }) => !isMember).length);
}

export function drawChart(surface: Surface, model: ChartModel, layout: Layout): void {
  drawAxes(surface, model.theme, layout);
  const { frame, x, y } = layout;
  const width = widthOf(model);
  // Without a line, nothing leaves the frame but dots at its edge.
  const air = model.series.some(({ x }) => x.length > 1) ? 0 : LONE_PX + width;
  const wide = frame.right - frame.left + 2 * air;
  const high = frame.bottom - frame.top + 2 * air;
  const bands = model.series.filter(({ area }) => area).length;
  surface.clipped(frame.left - air, frame.top - air, wide, high, () => {
    for (const series of model.series)
      if (width !== HAIRLINE || series.area) drawBand(surface, series, x, y, bands);
    for (const series of model.series) drawSeries(surface, series, x, y, width);
  });
  for (const series of model.series) drawMarks(surface, series, x, y);
}

function drawAxes(
  surface: Surface,
  theme: ChartTheme,
  { frame, x, y, xTicks, yTicks }: Layout,
): void {
  const grid = { color: theme.grid, width: HAIRLINE };
  for (const { value, label } of yTicks) {
    const at = y.toPixel(value);
    surface.segment(frame.left, at, frame.right, at, grid);
    surface.text(frame.left - LABEL_GAP, at, label, {
      color: theme.text,
      align: 'right',
      baseline: 'middle',
    });
  }
  for (const { value, label } of xTicks) {
    const at = x.toPixel(value);
    surface.segment(at, frame.bottom, at, frame.bottom + 3, {
      color: theme.frame,
      width: HAIRLINE,
    });
    // A label at the side would be cut off.
    const half = (label.length * CHARACTER_PX) / 2;
    const align = at + half > surface.width ? 'right' : 'center';
    const place = align === 'right' ? surface.width - 1 : at;
    surface.text(place, frame.bottom + 6, label, { color: theme.text, align, baseline: 'top' });
  }
  surface.segment(frame.left, frame.bottom, frame.right, frame.bottom, {
    color: theme.frame,
    width: HAIRLINE,
  });
}

export interface NearPoint {
  series: ChartSeries;
  index: number;
  x: number;
  y: number;
  distance: number;
}

/**
 * The bucket of each series that is nearest to `value` on the x axis, nearest to the pointer first.
 */
export function nearPoints(
  model: ChartModel,
  layout: Layout,
  value: number,
  pointerY?: number,
): NearPoint[] {
  const points: NearPoint[] = [];
  for (const series of model.series) {
    if (series.isMember) continue;
    const index = nearestIndex(series.x, value);
    if (index === undefined) continue;
    const shown = series.smooth?.[index] ?? series.data.last[index] ?? NaN;
    const x = layout.x.toPixel(series.x[index] as number);
    const y = layout.y.toPixel(shown);
    // A series that ended long before the pointer has nothing to say about it.
    if (Math.abs(x - layout.x.toPixel(value)) > MAX_DISTANCE_PX && isOutside(series.x, value))
      continue;
    points.push({
      series,
      index,
      x,
      y,
      distance: pointerY === undefined ? 0 : Math.abs(y - pointerY),
    });
  }
  return points.sort((a, b) =>
    Number.isNaN(a.distance) ? 1 : Number.isNaN(b.distance) ? -1 : a.distance - b.distance,
  );
}

const MAX_DISTANCE_PX = 24;

function isOutside(x: Float64Array, value: number): boolean {
  return value < (x[0] as number) || value > (x.at(-1) as number);
}

function nearestIndex(x: Float64Array, value: number): number | undefined {
  if (x.length === 0) return undefined;
  if (!isAscending(x)) {
    let best: number | undefined;
    let distance = Infinity;
    for (const [at, place] of x.entries()) {
      // Places that are no numbers are never the nearest.
      if (!(Math.abs(place - value) < distance)) continue;
      best = at;
      distance = Math.abs(place - value);
    }
    return best;
  }
  const after = Math.min(lowerBound(x, value), x.length - 1);
  const isBefore = after > 0 && value - (x[after - 1] as number) < (x[after] as number) - value;
  return isBefore ? after - 1 : after;
}

/**
 * Draws the marks that follow the pointer, on a surface above the chart: the chart itself is not
 * redrawn.
 */
export function drawHover(
  surface: Surface,
  model: ChartModel,
  { frame, x, y }: Layout,
  value: number | undefined,
  points: readonly NearPoint[],
  highlighted: readonly ChartSeries[],
): void {
  const at = value === undefined ? NaN : x.toPixel(value);
  const isInside = at >= frame.left && at <= frame.right;
  const highlight = Math.max(HIGHLIGHT_PX, (model.lineWidth ?? 0) + 1);
  if (isInside)
    surface.segment(at, frame.top, at, frame.bottom, { color: model.theme.frame, width: HAIRLINE });
  surface.clipped(frame.left, frame.top, frame.right - frame.left, frame.bottom - frame.top, () => {
    for (const series of model.series.length > 1 ? highlighted : []) {
      if (series.area) drawBand(surface, series, x, y);
      drawSeries(surface, { ...series, isMember: false }, x, y, highlight);
    }
    // More dots than that are a cloud.
    for (const point of isInside ? points.slice(0, 20) : []) {
      if (Number.isFinite(point.y)) surface.dot(point.x, point.y, 3, point.series.color);
    }
  });
}
