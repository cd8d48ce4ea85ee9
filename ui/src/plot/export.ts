/** Files of a chart: SVG, and PNG at twice the size of the screen. */
import { CanvasSurface } from './canvas_surface.ts';
import { drawChart, layoutChart, type ChartModel } from './chart.ts';
import { SvgSurface } from './svg_surface.ts';

const PNG_RATIO = 2;

export function chartSvg(model: ChartModel, width: number, height: number): string {
  const surface = new SvgSurface(width, height);
  drawChart(surface, model, layoutChart(model, width, height));
  return surface.toString();
}

export function chartPng(
  model: ChartModel,
  width: number,
  height: number,
  background: string,
): Promise<Blob> {
  const canvas = new OffscreenCanvas(width * PNG_RATIO, height * PNG_RATIO);
  const context = canvas.getContext('2d');
  if (!context) throw new Error('the browser has no canvas');
  const surface = new CanvasSurface(context, PNG_RATIO);
  surface.rect(0, 0, width, height, background, 1);
  drawChart(surface, model, layoutChart(model, width, height));
  return canvas.convertToBlob({ type: 'image/png' });
}
