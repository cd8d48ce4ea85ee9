/** Times of the renderer next to uPlot, for the same lines on the same canvas, until their pixels are there. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

import { readSeriesBuckets } from '../src/api/columns.ts';
import type { SeriesData } from '../src/api/series_data.ts';
import { SeriesBucketsSchema } from '../src/gen/matyan/series/v1/series_pb.ts';
import { CanvasSurface } from '../src/plot/canvas_surface.ts';
import { drawChart, drawHover, layoutChart, nearPoints, type ChartModel } from '../src/plot/chart.ts';
import type { ChartSeries } from '../src/plot/lines.ts';
import { PALETTE } from '../src/plot/palette.ts';

const WIDTH = 1000;
const HEIGHT = 500;
const REPEATS = 7;
const THEME = { text: '#333', grid: '#eee', frame: '#999' };
const SHAPES = [
  [50, 500],
  [200, 1000],
  [1000, 500],
] as const;

export interface BenchRow {
  name: string;
  first: number;
  median: number;
}

const stage = document.getElementById('stage') as HTMLElement;

function values(series: number, points: number): Float64Array {
  let state = series * 7919 + 1;
  const random = (): number => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) / 2 ** 32;
  return Float64Array.from(
    { length: points },
    (_, at) => Math.exp(-at / points) + series / 300 + (random() - 0.5) / 20,
  );
}

function lines(count: number, points: number): ChartSeries[] {
  const steps = Float64Array.from({ length: points }, (_, at) => at);
  const zeros = new Uint32Array(points);
  return Array.from({ length: count }, (_, at) => {
    const own = values(at, points);
    const data: SeriesData = {
      width: 1,
      steps,
      times: steps,
      min: own,
      max: own,
      last: own,
      nan: zeros,
      positiveInfinity: zeros,
      negativeInfinity: zeros,
    };
    const color = PALETTE[at % PALETTE.length]?.light ?? '#000';
    return { id: String(at), label: String(at), color, data, x: steps };
  });
}

/** Reading a pixel waits until everything before it has been drawn. */
function finishAll(): void {
  for (const canvas of stage.querySelectorAll('canvas')) canvas.getContext('2d')?.getImageData(0, 0, 1, 1);
}

async function time(name: string, run: () => void, repeats = REPEATS): Promise<BenchRow> {
  const times: number[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const start = performance.now();
    run();
    // uPlot draws in a microtask.
    await Promise.resolve();
    await Promise.resolve();
    finishAll();
    times.push(performance.now() - start);
  }
  const sorted = [...times].sort((a, b) => a - b);
  return { name, first: times[0] ?? NaN, median: sorted[Math.floor(repeats / 2)] ?? NaN };
}

function canvasIn(): HTMLCanvasElement {
  stage.replaceChildren();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  stage.append(canvas);
  return canvas;
}

async function ours(count: number, points: number): Promise<BenchRow[]> {
  const model: ChartModel = {
    series: lines(count, points),
    xKind: 'number',
    isLogX: false,
    isLogY: false,
    theme: THEME,
  };
  const canvas = canvasIn();
  const surface = new CanvasSurface(canvas.getContext('2d') as CanvasRenderingContext2D, 1);
  const draw = (chart: ChartModel): void => {
    surface.clear();
    drawChart(surface, chart, layoutChart(chart, WIDTH, HEIGHT));
  };
  const rows = [await time(`ours ${count} × ${points}`, () => draw(model))];
  const zoomed = { ...model, zoom: { low: points / 4, high: points / 2 } };
  rows.push(await time(`ours ${count} × ${points}, zoom`, () => draw(zoomed)));
  const layout = layoutChart(model, WIDTH, HEIGHT);
  let at = 0;
  rows.push(
    await time(`ours ${count} × ${points}, hover`, () => {
      surface.clear();
      at += points / 20;
      const near = nearPoints(model, layout, at, 200);
      drawHover(surface, model, layout, at, near, near[0]?.series);
    }),
  );
  return rows;
}

async function theirs(count: number, points: number): Promise<BenchRow[]> {
  const data = [
    Array.from({ length: points }, (_, at) => at),
    ...Array.from({ length: count }, (_, at) => [...values(at, points)]),
  ] as uPlot.AlignedData;
  const options: uPlot.Options = {
    width: WIDTH,
    height: HEIGHT,
    pxAlign: false,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false } },
    series: [
      {},
      ...Array.from({ length: count }, (_, at) => ({
        stroke: PALETTE[at % PALETTE.length]?.light ?? '#000',
        width: 1,
        points: { show: false },
      })),
    ],
  };
  let plot: uPlot | undefined;
  const rows = [
    await time(`uPlot ${count} × ${points}`, () => {
      plot?.destroy();
      stage.replaceChildren();
      plot = new uPlot(options, data, stage);
    }),
  ];
  const ends = [points / 2, points / 2 + 1];
  let turn = 0;
  rows.push(
    await time(`uPlot ${count} × ${points}, zoom`, () => {
      turn += 1;
      plot?.batch(() => plot?.setScale('x', { min: points / 4, max: ends[turn % 2] as number }));
    }),
  );
  plot?.destroy();
  return rows;
}

/** Buckets of 1,000 series, encoded. */
function encoded(): Uint8Array[] {
  return Array.from({ length: 1000 }, (_, at) => {
    const own = values(at, 500);
    const steps = Array.from(own, (_, step) => BigInt(step * 20 + 19));
    const min = [...own];
    return toBinary(
      SeriesBucketsSchema,
      create(SeriesBucketsSchema, {
        index: Array.from(own.keys()),
        min,
        max: min,
        last: min,
        lastStep: steps,
        lastTimeUs: steps,
      }),
    );
  });
}

async function decoding(): Promise<BenchRow[]> {
  const messages = encoded();
  return [
    await time('decode 1000 × 500, ours', () => messages.forEach(message => readSeriesBuckets(message))),
    await time('decode 1000 × 500, generated', () =>
      messages.forEach(message => fromBinary(SeriesBucketsSchema, message)),
    ),
  ];
}

export async function report(): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const [count, points] of SHAPES)
    rows.push(...(await ours(count, points)), ...(await theirs(count, points)));
  return [...rows, ...(await decoding())];
}

export function table(rows: readonly BenchRow[]): string {
  return rows
    .map(
      ({ name, first, median }) =>
        `${name.padEnd(34)} first ${first.toFixed(1).padStart(8)}  median ${median.toFixed(1).padStart(8)}`,
    )
    .join('\n');
}

Object.assign(globalThis, { report, table });
if (!navigator.webdriver) {
  (document.getElementById('report') as HTMLElement).textContent = table(await report());
}
