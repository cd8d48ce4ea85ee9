/** Gives tests access to the renderer in a browser. */
import { coarsen, type SeriesData } from '../../src/api/series_data.ts';
import { CanvasSurface } from '../../src/plot/canvas_surface.ts';
import { drawChart, layoutChart, type ChartModel } from '../../src/plot/chart.ts';
import { chartPng } from '../../src/plot/export.ts';
import { smoothed, type ChartSeries } from '../../src/plot/lines.ts';

const THEME = { text: '#000', grid: '#eee', frame: '#999' };

/** Buckets as the server thins a long series: the extremes of all points in each. */
function thinned(points: number, buckets: number, value: (step: number) => number): SeriesData {
  const column = (): Float64Array => new Float64Array(points);
  const steps = column();
  const values = column();
  for (let step = 0; step < points; step++) {
    steps[step] = step;
    values[step] = value(step);
  }
  const zeros = new Uint32Array(points);
  const data = { width: 1, steps, times: steps, min: values, max: values, last: values };
  return coarsen(
    { ...data, nan: zeros, positiveInfinity: zeros, negativeInfinity: zeros },
    buckets,
  );
}

function line(data: SeriesData, color: string, smoothing = 0): ChartSeries {
  return {
    id: color,
    label: color,
    color,
    data,
    x: data.steps,
    ...(smoothing && { smooth: smoothed(data, smoothing) }),
  };
}

interface Scene {
  points: number;
  spikeAt: number;
  smoothing?: number;
  others?: number;
  ratio?: number;
  zoom?: { low: number; high: number };
}

const WIDTH = 800;
const HEIGHT = 300;

function modelOf({ points, spikeAt, smoothing = 0, others = 0, zoom }: Scene): ChartModel {
  const spike = thinned(points, 1_000, step => (step === spikeAt ? 1 : 0));
  const flat = thinned(10_000, 1_000, () => 0);
  const series = Array.from({ length: others }, () => line(flat, '#cccccc'));
  return {
    series: [...series, line(spike, '#ff0000', smoothing)],
    xKind: 'number',
    isLogX: false,
    isLogY: false,
    zoom,
    theme: THEME,
  };
}

/** Draws a scene, and reads the reddest pixel in the upper half of the frame back. */
function spikeRedness(scene: Scene): { redness: number; x: number; expected: number } {
  const ratio = scene.ratio ?? 1;
  const canvas = new OffscreenCanvas(WIDTH * ratio, HEIGHT * ratio);
  const context = canvas.getContext('2d', {
    willReadFrequently: true,
  }) as OffscreenCanvasRenderingContext2D;
  context.fillStyle = '#fff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  const model = modelOf(scene);
  const layout = layoutChart(model, WIDTH, HEIGHT);
  drawChart(new CanvasSurface(context, ratio), model, layout);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height / 2);
  const best = { redness: 0, x: 0, expected: layout.x.toPixel(scene.spikeAt) };
  for (let at = 0; at < data.length; at += 4) {
    const redness = (data[at] as number) - (data[at + 1] as number);
    if (redness > best.redness) {
      best.redness = redness;
      best.x = ((at / 4) % canvas.width) / ratio;
    }
  }
  return best;
}

async function pngSize(scene: Scene): Promise<[width: number, height: number]> {
  const image = await createImageBitmap(
    await chartPng(modelOf(scene), WIDTH, HEIGHT, { background: '#fff' }),
  );
  return [image.width, image.height];
}

/** Darkest value on a hairline that was drawn over white, and the number of rows it covers. */
function hairline(ratio: number): { rows: number } {
  const canvas = new OffscreenCanvas(100 * ratio, 20 * ratio);
  const context = canvas.getContext('2d') as OffscreenCanvasRenderingContext2D;
  new CanvasSurface(context, ratio).segment(0, 10, 100, 10, { color: '#000', width: 0 });
  const { data } = context.getImageData(50 * ratio, 0, 1, canvas.height);
  return { rows: data.filter((alpha, at) => at % 4 === 3 && alpha > 0).length };
}

export type Probe = {
  spikeRedness: typeof spikeRedness;
  pngSize: typeof pngSize;
  hairline: typeof hairline;
};
Object.assign(globalThis, { probe: { spikeRedness, pngSize, hairline } satisfies Probe });
