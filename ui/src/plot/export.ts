/**
 * Pictures of a chart for papers and slides: SVG, and PNG at twice the size of the screen. The
 * picture names its lines, so it can be read alone.
 */
import { characters } from '../format/characters.ts';
import { CanvasSurface } from './canvas_surface.ts';
import { CHARACTER_PX, drawChart, layoutChart, widthOf, type ChartModel } from './chart.ts';
import type { ChartSeries } from './lines.ts';
import type { Surface } from './surface.ts';
import { SvgSurface } from './svg_surface.ts';

export interface PictureOptions {
  /** A color; absent: the picture is transparent. */
  background?: string | undefined;
  /** Absent: the picture has neither a title nor a legend. */
  names?: { title: string; xTitle: string } | undefined;
}

const PNG_RATIO = 2;
const EDGE_PX = 12;
const TITLE_ROW_PX = 24;
const LEGEND_ROW_PX = 17;
const SWATCH_PX = 18;
const GAP_PX = 14;
/** More names would leave no room for the chart. */
const MAX_NAMED = 30;
/** The part of the height that the legend may take. */
const MAX_LEGEND_SHARE = 0.5;
const X_TITLE_PX = 18;

interface LegendEntry {
  series?: ChartSeries;
  text: string;
  x: number;
  row: number;
}

/** A text with its ends: names of runs differ at the end as often as at the start. */
export function cutInside(text: string, most: number): string {
  const all = characters(text);
  if (all.length <= most) return text;
  const start = Math.ceil((most - 1) / 2);
  const end = all.length - (most - 1 - start);
  return `${all.slice(0, start).join('')}…${all.slice(end).join('')}`;
}

/** The names of as many lines as have room. */
function legendOf(model: ChartModel, width: number, height: number): LegendEntry[] {
  const lines = model.series.filter(({ isMember }) => !isMember);
  const rows = Math.max(1, Math.floor((MAX_LEGEND_SHARE * height) / LEGEND_ROW_PX));
  for (let named = Math.min(lines.length, MAX_NAMED); ; named--) {
    const entries = placed(lines, named, width);
    if (named <= 1 || (entries.at(-1)?.row ?? 0) < rows) return entries;
  }
}

/** Places the names of the first lines, and the number of the others, in rows from left to right. */
function placed(lines: readonly ChartSeries[], named: number, width: number): LegendEntry[] {
  const most = Math.max(8, Math.floor((width - 2 * EDGE_PX - SWATCH_PX) / CHARACTER_PX));
  const rest = lines.length - named;
  const entries: { series?: ChartSeries; text: string }[] = lines
    .slice(0, named)
    .map(series => ({ series, text: cutInside(series.label, most) }));
  if (rest > 0) entries.push({ text: `and ${rest} more` });
  let x = EDGE_PX;
  let row = 0;
  return entries.map(entry => {
    const own = (entry.series ? SWATCH_PX : 0) + entry.text.length * CHARACTER_PX;
    if (x > EDGE_PX && x + own > width - EDGE_PX) {
      x = EDGE_PX;
      row += 1;
    }
    const place = { ...entry, x, row };
    x += own + GAP_PX;
    return place;
  });
}

export function drawPicture(
  surface: Surface,
  model: ChartModel,
  { background, names }: PictureOptions = {},
): void {
  const { width, height } = surface;
  const { text: color } = model.theme;
  if (background)
    surface.area(Float64Array.of(0, 0, width, 0, width, height, 0, height), 4, background, 1);
  const legend = names ? legendOf(model, width, height) : [];
  const rows = legend.length > 0 ? (legend.at(-1)?.row ?? 0) + 1 : 0;
  const above = names ? EDGE_PX + TITLE_ROW_PX + rows * LEGEND_ROW_PX : 0;
  const layout = layoutChart(model, width, height, { above, below: names ? X_TITLE_PX : 0 });
  drawChart(surface, model, layout);
  if (!names) return;
  const start = { color, align: 'left', baseline: 'middle' } as const;
  const title = EDGE_PX + TITLE_ROW_PX / 2 - 2;
  surface.text(EDGE_PX, title, names.title, { ...start, isTitle: true });
  const stroke = Math.max(widthOf(model), 1.5);
  for (const { series, text, x, row } of legend) {
    const y = EDGE_PX + TITLE_ROW_PX + (row + 0.5) * LEGEND_ROW_PX;
    if (series) {
      const { color, dash } = series;
      surface.segment(x, y, x + SWATCH_PX - 5, y, { color, width: stroke, ...(dash && { dash }) });
    }
    surface.text(x + (series ? SWATCH_PX : 0), y, text, start);
  }
  const middle = (layout.frame.left + layout.frame.right) / 2;
  const end = { color, align: 'center', baseline: 'bottom' } as const;
  surface.text(middle, height - 4, names.xTitle, end);
}

export function chartSvg(
  model: ChartModel,
  width: number,
  height: number,
  options: PictureOptions = {},
): string {
  const surface = new SvgSurface(width, height);
  drawPicture(surface, model, options);
  return surface.toString();
}

export function chartPng(
  model: ChartModel,
  width: number,
  height: number,
  options: PictureOptions = {},
): Promise<Blob> {
  const canvas = new OffscreenCanvas(width * PNG_RATIO, height * PNG_RATIO);
  const context = canvas.getContext('2d');
  if (!context) throw new Error('the browser has no canvas');
  drawPicture(new CanvasSurface(context, PNG_RATIO), model, options);
  return canvas.convertToBlob({ type: 'image/png' });
}
