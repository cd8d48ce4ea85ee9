/**
 * The drawing calls of a chart, in CSS pixels. The canvas and the SVG backend implement them, so
 * exports are exact.
 */
export interface Stroke {
  color: string;
  /** In CSS pixels; `HAIRLINE`: one device pixel. */
  width: number;
  alpha?: number;
  dash?: readonly number[];
}

/** Exactly one device pixel, which browsers draw ten times faster than any other width. */
export const HAIRLINE = 0;

export interface TextStyle {
  color: string;
  align: 'left' | 'center' | 'right';
  baseline: 'top' | 'middle' | 'bottom';
  /** Larger, and bold. */
  isTitle?: boolean;
}

export interface Surface {
  readonly width: number;
  readonly height: number;
  readonly ratio: number;
  /** A line through `count` points, x and y in turn. A point with NaN is a gap. */
  polyline(points: Float64Array, count: number, stroke: Stroke): void;
  area(points: Float64Array, count: number, color: string, alpha: number): void;
  segment(x1: number, y1: number, x2: number, y2: number, stroke: Stroke): void;
  dot(x: number, y: number, radius: number, color: string): void;
  text(x: number, y: number, text: string, style: TextStyle): void;
  clipped(x: number, y: number, width: number, height: number, draw: () => void): void;
}

export const FONT_PX = 11;
export const TITLE_PX = 14;
export const FONT_FAMILY = 'system-ui, sans-serif';
