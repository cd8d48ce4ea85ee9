/** Times of the renderer next to uPlot and ECharts, for the same lines at the same size, until their pixels are there. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import * as echarts from 'echarts';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

import { readSeriesBuckets } from '../src/api/columns.ts';
import type { SeriesData } from '../src/api/series_data.ts';
import { SeriesBucketsSchema } from '../src/gen/matyan/series/v1/series_pb.ts';
import { CanvasSurface } from '../src/plot/canvas_surface.ts';
import {
  drawChart,
  drawHover,
  layoutChart,
  nearPoints,
  type ChartModel,
} from '../src/plot/chart.ts';
import type { ChartSeries } from '../src/plot/lines.ts';
import { PALETTE } from '../src/plot/palette.ts';

const WIDTH = 1000;
const HEIGHT = 500;
const REPEATS = 9;
const THEME = { text: '#333', grid: '#eee', frame: '#999' };
/** Numbers of lines, and of points of each. */
export const SHAPES = [
  [50, 500],
  [1000, 500],
] as const;

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
  for (const canvas of stage.querySelectorAll('canvas'))
    canvas.getContext('2d')?.getImageData(0, 0, 1, 1);
}

/** A chart of some lines, with the three things that readers do with it. */
interface BenchChart {
  draw(): void;
  /** Shows the second quarter of the steps; the turn makes each call differ from the last one. */
  zoom(turn: number): void;
  /** Moves the pointer to a step. */
  hover(step: number): void;
  remove(): void;
}

type Library = (count: number, points: number) => BenchChart;

const color = (at: number): string => PALETTE[at % PALETTE.length]?.light ?? '#000';

function canvasIn(): CanvasSurface {
  const canvas = document.createElement('canvas');
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  stage.append(canvas);
  return new CanvasSurface(canvas.getContext('2d') as CanvasRenderingContext2D, 1);
}

function matyan(count: number, points: number): BenchChart {
  const model: ChartModel = {
    series: lines(count, points),
    xKind: 'number',
    isLogX: false,
    isLogY: false,
    theme: THEME,
  };
  let surface: CanvasSurface | undefined;
  let overlay: CanvasSurface | undefined;
  const layout = layoutChart(model, WIDTH, HEIGHT);
  const show = (chart: ChartModel): void => {
    surface?.clear();
    if (surface) drawChart(surface, chart, layoutChart(chart, WIDTH, HEIGHT));
  };
  return {
    draw() {
      stage.replaceChildren();
      surface = canvasIn();
      overlay = canvasIn();
      show(model);
    },
    zoom: turn => show({ ...model, zoom: { low: points / 4, high: points / 2 + (turn % 2) } }),
    hover(step) {
      const near = nearPoints(model, layout, step, 200);
      overlay?.clear();
      if (overlay)
        drawHover(
          overlay,
          model,
          layout,
          step,
          near,
          near.slice(0, 1).map(({ series }) => series),
        );
    },
    remove: () => stage.replaceChildren(),
  };
}

function uplot(count: number, points: number): BenchChart {
  const data = [
    Array.from({ length: points }, (_, at) => at),
    ...Array.from({ length: count }, (_, at) => [...values(at, points)]),
  ] as uPlot.AlignedData;
  const options: uPlot.Options = {
    width: WIDTH,
    height: HEIGHT,
    pxAlign: false,
    legend: { show: false },
    scales: { x: { time: false } },
    series: [
      {},
      ...Array.from({ length: count }, (_, at) => ({
        stroke: color(at),
        width: 1,
        points: { show: false },
      })),
    ],
  };
  let plot: uPlot | undefined;
  const remove = (): void => {
    plot?.destroy();
    stage.replaceChildren();
  };
  return {
    draw() {
      remove();
      plot = new uPlot(options, data, stage);
    },
    zoom: turn => plot?.setScale('x', { min: points / 4, max: points / 2 + (turn % 2) }),
    hover: step => plot?.setCursor({ left: plot.valToPos(step, 'x'), top: 200 }),
    remove,
  };
}

function eChartsChart(count: number, points: number): BenchChart {
  const series = Array.from({ length: count }, (_, at) => ({
    type: 'line' as const,
    data: Array.from(values(at, points), (value, step) => [step, value]),
    showSymbol: false,
    progressive: 0,
    lineStyle: { width: 1, color: color(at) },
  }));
  let chart: echarts.ECharts | undefined;
  const remove = (): void => {
    chart?.dispose();
    stage.replaceChildren();
  };
  const flush = (): void => chart?.getZr().flush();
  return {
    draw() {
      remove();
      chart = echarts.init(stage, null, { width: WIDTH, height: HEIGHT, renderer: 'canvas' });
      const x = { type: 'value' as const, min: 0, max: points };
      const dataZoom = { type: 'inside' as const };
      chart.setOption({
        animation: false,
        xAxis: x,
        yAxis: { type: 'value' },
        dataZoom,
        tooltip: { trigger: 'axis', show: true, showContent: false },
        series,
      });
      flush();
    },
    zoom(turn) {
      chart?.dispatchAction({
        type: 'dataZoom',
        startValue: points / 4,
        endValue: points / 2 + (turn % 2),
      });
      flush();
    },
    hover(step) {
      const [left = 0] =
        (chart?.convertToPixel({ seriesIndex: 0 }, [step, 0]) as number[] | undefined) ?? [];
      chart?.dispatchAction({ type: 'showTip', x: left, y: 200 });
      flush();
    },
    remove,
  };
}

export const LIBRARIES: Record<string, Library> = { matyan, uPlot: uplot, ECharts: eChartsChart };

let open: BenchChart | undefined;

/** Leaves a chart on the page, so that its memory can be counted; without a library, takes it away. */
export async function leave(library?: string, count = 0, points = 0): Promise<void> {
  open?.remove();
  open = library === undefined ? undefined : LIBRARIES[library]?.(count, points);
  open?.draw();
  await settled();
}

/** uPlot draws in a microtask. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await Promise.resolve();
  finishAll();
}

/** The first time, the median and the shortest of all, in milliseconds: a busy machine lengthens the first two. */
type Times = [first: number, median: number, best: number];

async function time(run: (turn: number) => void): Promise<Times> {
  const times: number[] = [];
  for (let turn = 0; turn < REPEATS; turn++) {
    const start = performance.now();
    run(turn);
    await settled();
    times.push(performance.now() - start);
  }
  const sorted = [...times].sort((a, b) => a - b);
  return [times[0] ?? NaN, sorted[REPEATS >> 1] ?? NaN, sorted[0] ?? NaN];
}

export interface ChartTimes {
  draw: Times;
  zoom: Times;
  hover: Times;
}

export async function measure(library: string, count: number, points: number): Promise<ChartTimes> {
  const chart = LIBRARIES[library]?.(count, points);
  if (!chart) throw new Error(`there is no library called ${library}`);
  const draw = await time(() => chart.draw());
  const zoom = await time(turn => chart.zoom(turn));
  chart.draw();
  await settled();
  const hover = await time(turn => chart.hover(((turn + 1) * points) / (REPEATS + 2)));
  chart.remove();
  return { draw, zoom, hover };
}

/** Buckets of 1,000 series as the server sends them for a chart over steps, or over times. */
function encoded(hasTimes: boolean): Uint8Array[] {
  return Array.from({ length: 1000 }, (_, at) => {
    const own = values(at, 500);
    const steps = Array.from(own, (_, step) => BigInt(step * 20 + 19));
    const init = {
      place: { run: at % 50, series: at },
      info: {
        number: at,
        name: `metric ${at}`,
        context: '{"subset":"val"}',
        last: own.at(-1) ?? 0,
        count: 10_000n,
      },
      width: 20n,
      index: Array.from(own.keys()),
      min: Array.from(own, value => value - 0.1),
      max: Array.from(own, value => value + 0.1),
      last: [...own],
      lastStep: steps,
      ...(hasTimes && {
        lastTimeUs: steps.map(step => 1_790_000_000_000_000n + step * 1_000_003n),
      }),
    };
    return toBinary(SeriesBucketsSchema, create(SeriesBucketsSchema, init));
  });
}

/** Decoding of 1,000 × 500 buckets: by our reader, also with times, and by generated code. */
export async function decoding(): Promise<Record<string, Times>> {
  const steps = encoded(false);
  const times = encoded(true);
  return {
    matyan: await time(() => steps.forEach(message => readSeriesBuckets(message))),
    'matyan, with times': await time(() => times.forEach(message => readSeriesBuckets(message))),
    'generated code': await time(() =>
      steps.forEach(message => fromBinary(SeriesBucketsSchema, message)),
    ),
  };
}

Object.assign(globalThis, { bench: { SHAPES, LIBRARIES, measure, leave, decoding } });
