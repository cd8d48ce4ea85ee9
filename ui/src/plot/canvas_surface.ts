/**
 * Draws on a canvas, in device pixels: a transformed context would leave the fast path for lines of
 * one pixel.
 */
import { FONT_FAMILY, FONT_PX, HAIRLINE, TITLE_PX } from './surface.ts';
import type { Stroke, Surface, TextStyle } from './surface.ts';

type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

export class CanvasSurface implements Surface {
  readonly width: number;
  readonly height: number;

  constructor(
    readonly context: Context,
    readonly ratio: number,
  ) {
    this.width = context.canvas.width / ratio;
    this.height = context.canvas.height / ratio;
  }

  clear(): void {
    this.context.clearRect(0, 0, this.context.canvas.width, this.context.canvas.height);
  }

  polyline(points: Float64Array, count: number, stroke: Stroke): void {
    const { context, ratio } = this;
    context.beginPath();
    let isGap = true;
    for (let at = 0; at < 2 * count; at += 2) {
      const x = (points[at] as number) * ratio;
      const y = (points[at + 1] as number) * ratio;
      // NaN differs from itself.
      if (y !== y || x !== x) isGap = true;
      else if (isGap) {
        context.moveTo(x, y);
        // A point between two gaps would be invisible.
        context.lineTo(x, y + 0.01);
        isGap = false;
      } else context.lineTo(x, y);
    }
    this.#stroke(stroke);
  }

  area(points: Float64Array, count: number, color: string, alpha: number): void {
    const { context, ratio } = this;
    context.beginPath();
    for (let at = 0; at < 2 * count; at += 2) {
      context.lineTo((points[at] as number) * ratio, (points[at + 1] as number) * ratio);
    }
    context.closePath();
    this.#fill(color, alpha);
  }

  segment(x1: number, y1: number, x2: number, y2: number, stroke: Stroke): void {
    const { context, ratio } = this;
    // The center of a device pixel: a hairline between two pixels would be drawn as two, half as
    // dark.
    const snap = (value: number): number => Math.floor(value * ratio) + 0.5;
    context.beginPath();
    context.moveTo(snap(x1), snap(y1));
    context.lineTo(snap(x2), snap(y2));
    this.#stroke(stroke);
  }

  rect(x: number, y: number, width: number, height: number, color: string, alpha: number): void {
    const { context, ratio } = this;
    context.beginPath();
    context.rect(x * ratio, y * ratio, width * ratio, height * ratio);
    this.#fill(color, alpha);
  }

  dot(x: number, y: number, radius: number, color: string): void {
    const { context, ratio } = this;
    context.beginPath();
    context.arc(x * ratio, y * ratio, radius * ratio, 0, 2 * Math.PI);
    this.#fill(color, 1);
  }

  text(x: number, y: number, text: string, style: TextStyle): void {
    const { context, ratio } = this;
    const { color, align, baseline, isTitle = false } = style;
    context.font = `${isTitle ? '600 ' : ''}${(isTitle ? TITLE_PX : FONT_PX) * ratio}px ${FONT_FAMILY}`;
    context.fillStyle = color;
    context.textAlign = align;
    context.textBaseline = baseline;
    context.fillText(text, x * ratio, y * ratio);
  }

  clipped(x: number, y: number, width: number, height: number, draw: () => void): void {
    const { context, ratio } = this;
    context.save();
    context.beginPath();
    context.rect(x * ratio, y * ratio, width * ratio, height * ratio);
    context.clip();
    draw();
    context.restore();
  }

  #stroke({ color, width, alpha = 1, dash = [] }: Stroke): void {
    const { context, ratio } = this;
    context.strokeStyle = color;
    context.globalAlpha = alpha;
    context.lineWidth = width === HAIRLINE ? 1 : width * ratio;
    context.lineJoin = width === HAIRLINE ? 'bevel' : 'round';
    context.setLineDash(dash.map(length => length * ratio));
    context.stroke();
    context.globalAlpha = 1;
  }

  #fill(color: string, alpha: number): void {
    this.context.fillStyle = color;
    this.context.globalAlpha = alpha;
    this.context.fill();
    this.context.globalAlpha = 1;
  }
}
