import { expect, test } from 'vitest';

import { EMPTY_SERIES, type SeriesData } from '../api/series_data.ts';
import { Axis, padded, partOf, withEnds, type AxisKind } from './axis.ts';
import { layoutChart, nearPoints, type ChartModel } from './chart.ts';
import { chartSvg, cutInside } from './export.ts';
import { xExtent, yExtent } from './extents.ts';
import { LINE_PX, smoothed, tracePoints, type ChartSeries } from './lines.ts';
import { ownPlace, PALETTE, placeColors } from './palette.ts';

function line(values: number[], more: Partial<SeriesData> = {}): ChartSeries {
  const last = Float64Array.from(values);
  const steps = Float64Array.from(values, (_, at) => at);
  const finite = last.map(value => (Number.isFinite(value) ? value : NaN));
  const zeros = new Uint32Array(values.length);
  const data: SeriesData = {
    width: 1,
    steps,
    times: steps,
    min: finite,
    max: finite,
    last,
    nan: zeros,
    positiveInfinity: zeros,
    negativeInfinity: zeros,
    ...more,
  };
  return { id: 'a', label: 'a', color: '#123456', data, x: steps };
}

function model(series: ChartSeries[], more: Partial<ChartModel> = {}): ChartModel {
  const theme = { text: '#111', grid: '#222', frame: '#333' };
  return { series, xKind: 'number', isLogX: false, isLogY: false, theme, ...more };
}

test('axes map both ways', () => {
  const check = (isLog: boolean, low: number, high: number, value: number, pixel: number): void => {
    const axis = new Axis({ low, high }, 0, 100, isLog);
    expect(axis.toPixel(value)).toBeCloseTo(pixel, 9);
    expect(axis.toValue(pixel)).toBeCloseTo(value, 9);
  };
  check(false, -10, 10, 0, 50);
  check(true, 0.01, 100, 1, 50);
  expect(new Axis({ low: 1, high: 10 }, 0, 1, true).toPixel(0)).toBeNaN();
});

test('ticks are round', () => {
  const labels = (low: number, high: number, isLog = false, kind: AxisKind = 'number'): string[] =>
    new Axis({ low, high }, 0, 100, isLog, kind).ticks(5).map(({ label }) => label);
  expect(labels(0, 1)).toEqual(['0', '0.2', '0.4', '0.6', '0.8', '1']);
  expect(labels(1e-6, 1, true)).toEqual(['1e−6', '0.0001', '0.01', '1']);
  expect(labels(2, 60, true)).toEqual(['2', '5', '10', '20', '50']);
  expect(labels(0, 7_200_000, false, 'duration')).toContain('1 h');
  expect(labels(0, 2)).toEqual(['0', '0.5', '1', '1.5', '2']);
  expect(labels(0, 2, false, 'step')).toEqual(['0', '1', '2']);
  expect(labels(0.4, 2.4, true, 'step')).toEqual(['1', '2']);
  expect(labels(0, 1e6, false, 'step').at(-1)).toBe('1\u202f000\u202f000');
});

test('ticks of times are round in the zone of the reader', () => {
  const midnight = new Date(2026, 10, 22).getTime();
  const check = (low: number, high: number, count: number, expected: number[]): void =>
    expect(
      new Axis({ low, high }, 0, 100, false, 'time').ticks(count).map(({ value }) => value),
    ).toEqual(expected);
  const hour = 3_600_000;
  check(
    midnight - hour,
    midnight + 5 * hour,
    6,
    [-1, 0, 1, 2, 3, 4, 5].map(at => midnight + at * hour),
  );
  check(
    midnight + 1,
    midnight + 40_000,
    5,
    [15_000, 30_000].map(at => midnight + at),
  );
  check(midnight, midnight, 5, [midnight]);
  expect(new Axis({ low: 0, high: 1e14 }, 0, 100, false, 'time').ticks(5).length).toBeLessThan(8);
});

test('a range always has a size', () => {
  expect(padded({ low: 5, high: 5 }, false)).toEqual({ low: 4.5, high: 5.5 });
  expect(padded({ low: 0, high: 0 }, false)).toEqual({ low: -1, high: 1 });
  expect(padded({ low: Infinity, high: -Infinity }, false)).toEqual({ low: 0, high: 1 });
  expect(padded({ low: 4, high: 4 }, true)).toEqual({ low: 2, high: 8 });
});

test('the extent of a logarithmic axis ignores zero and less', () => {
  const series = [line([-1, 0, 0.5, 8])];
  const x = new Axis(xExtent(series), 0, 1, false);
  expect(yExtent(series, x, true)).toEqual({ low: 0.5, high: 8 });
  expect(yExtent(series, x, false)).toEqual({ low: -1, high: 8 });
  expect(yExtent([line([NaN, Infinity])], x, false)).toEqual({ low: Infinity, high: -Infinity });
});

test('a line has at most two points per device pixel, and keeps every extreme', () => {
  const values = Array.from({ length: 200_000 }, (_, at) => (at === 123_456 ? 50 : Math.sin(at)));
  const series = line(values);
  const x = new Axis({ low: 0, high: 199_999 }, 0, 500, false);
  const y = new Axis({ low: -60, high: 60 }, 0, 120, false);
  const [points, count] = tracePoints(series, x, y, 2);
  expect(count).toBeLessThanOrEqual(2 * 1_001);
  expect(Math.max(...points.subarray(0, 2 * count).filter((_, at) => at % 2 === 1))).toBeCloseTo(
    110,
    6,
  );
});

test('gaps stay gaps', () => {
  const [points, count] = tracePoints(
    line([1, NaN, 2]),
    new Axis({ low: 0, high: 2 }, 0, 200, false),
    new Axis({ low: 0, high: 2 }, 0, 2, false),
    1,
  );
  expect(
    [...points.subarray(1, 2 * count)].filter((_, at) => at % 2 === 0).map(Number.isNaN),
  ).toEqual([false, true, true, false]);
});

test('smoothing has no bias at its start, and skips what is not finite', () => {
  const own = (values: number[], weight: number): number[] => [
    ...smoothed(line(values).data, weight),
  ];
  expect(own([2, 2, 2], 0.9).map(value => Number(value.toFixed(12)))).toEqual([2, 2, 2]);
  const [first, gap, third] = own([1, NaN, 3], 0.5);
  expect([first, gap]).toEqual([1, NaN]);
  expect(third).toBeCloseTo((0.25 * 1 + 0.5 * 3) / 0.75, 12);
});

test('an x axis that goes back loses no point', () => {
  const back = { ...line([0, 9, 0, 0]), x: Float64Array.of(100, 300, 50, 120) };
  expect(xExtent([back])).toEqual({ low: 50, high: 300 });
  const x = new Axis({ low: 200, high: 400 }, 0, 100, false);
  expect(yExtent([back], x, false)).toEqual({ low: 9, high: 9 });
  const [points, count] = tracePoints(back, x, new Axis({ low: 0, high: 10 }, 0, 10, false), 1);
  expect([...points.subarray(0, 2 * count)].filter((_, at) => at % 2 === 1)).toContain(9);
  const chart = model([back]);
  expect(nearPoints(chart, layoutChart(chart, 400, 200), 290)[0]?.index).toBe(1);
});

test('the nearest points come first', () => {
  const low = line([0, 0, 0]);
  const high = { ...line([10, 10, 10]), id: 'b' };
  const chart = model([low, high]);
  const layout = layoutChart(chart, 400, 200);
  const near = nearPoints(chart, layout, 1.2, layout.y.toPixel(9));
  expect(near.map(({ series, index }) => [series.id, index])).toEqual([
    ['b', 1],
    ['a', 1],
  ]);
  expect(nearPoints(model([line([])]), layout, 1)).toEqual([]);
});

test('SVG has the same lines, escaped', () => {
  const svg = chartSvg(
    model([line([1, NaN, 3]), { ...line([1, 2, 3]), color: '"><script>' }]),
    400,
    200,
  );
  expect(svg).toMatch(/^<svg xmlns.*<\/svg>$/);
  expect(svg).not.toContain('<script>');
  expect(svg.match(/<path /g)?.length).toBeGreaterThan(4);
});

test('a picture names its lines, its metric and its x axis, and has room for all of them', () => {
  const all = Array.from({ length: 40 }, (_, at) => ({
    ...line([1, 2, 3]),
    id: `${at}`,
    label: `a run with a long name ${at}`,
  }));
  const names = { title: 'val/loss', xTitle: 'step' };
  const svg = chartSvg(model(all), 600, 400, { background: '#ffffff', names });
  const texts = [...svg.matchAll(/<text [^>]*y="([\d.]+)"[^>]*>([^<]*)</g)].map(
    ([, y, text]) => [Number(y), text] as const,
  );
  const place = (wanted: string): number => texts.find(([, text]) => text === wanted)?.[0] ?? NaN;
  expect(svg).toContain('<polygon points="0,0 600,0 600,400 0,400" fill="#ffffff"/>');
  expect(place('val/loss')).toBeLessThan(place('a run with a long name 0'));
  expect(place('a run with a long name 29')).toBeLessThan(place('and 10 more') + 1);
  expect(texts.map(([, text]) => text)).not.toContain('a run with a long name 30');
  expect(place('step')).toBeGreaterThan(390);
  // The chart begins below the legend.
  const clip = /<clipPath[^>]*><rect x="[\d.]+" y="([\d.]+)"/.exec(svg)?.[1];
  expect(Number(clip)).toBeGreaterThan(place('and 10 more'));
  expect(chartSvg(model(all), 600, 400)).not.toContain('a run with');
  // In a small picture, the legend leaves room for the chart.
  const small = chartSvg(model(all), 360, 250, { names });
  expect(small).toContain('>a run with a long name 0<');
  expect(small).toMatch(/>and \d\d more</);
  const top = /<clipPath[^>]*><rect x="[\d.]+" y="([\d.]+)"/.exec(small)?.[1];
  expect(Number(top)).toBeLessThan(180);
  expect(cutInside('llama3-8b-sft-sweep-gentle-valley-10', 16)).toBe('llama3-8…lley-10');
  expect(cutInside('🦙🦙🦙 👩🏽‍🚀👩🏽‍🚀', 4)).toBe('🦙🦙…👩🏽‍🚀');
  expect(cutInside('🦙🦙🦙👩🏽‍🚀', 4)).toBe('🦙🦙🦙👩🏽‍🚀');
  const odd = { ...line([1]), id: 'odd', label: 'a\0 <b> & "c"\x1b' };
  expect(chartSvg(model([odd]), 600, 400, { names })).toContain(
    '>a &#60;b&#62; &#38; &#34;c&#34;</text>',
  );
});

test('values that are not finite are marked at the edges: a cross, and a triangle up or down', () => {
  const values = [1, NaN, Infinity, -Infinity, 3];
  const marks = values.map(value => Number.isNaN(value));
  const counts = (at: number): Uint32Array =>
    Uint32Array.from(values, (_, own) => Number(own === at));
  const more = {
    nan: Uint32Array.from(marks, Number),
    positiveInfinity: counts(2),
    negativeInfinity: counts(3),
  };
  const chart = model([line(values, more)]);
  const { x, frame } = layoutChart(chart, 400, 200);
  const svg = chartSvg(chart, 400, 200);
  const numbers = (text = ''): number[] => (text.match(/-?[\d.]+/g) ?? []).map(Number);
  const polygons = [...svg.matchAll(/<polygon points="([^"]*)" fill="#123456"\/>/g)].map(
    ([, text]) => numbers(text),
  );
  const middle = (points: number[] = []): number => (points[0] ?? NaN) as number;
  expect(polygons.map(points => Math.round(middle(points)))).toEqual(
    [2, 3].map(at => Math.round(x.toPixel(at))),
  );
  const [up = [], down = []] = polygons.map(points => points.filter((_, at) => at % 2 === 1));
  // The tip comes first.
  expect(up[0]).toBe(Math.min(...up));
  expect(down[0]).toBe(Math.max(...down));
  expect(Math.max(...up)).toBeLessThan(frame.top + 12);
  expect(Math.min(...down)).toBeGreaterThan(frame.bottom - 12);
  const cross = /d="(M[\d.]+ [\d.]+h0L[\d.]+ [\d.]+M[\d.]+ [\d.]+h0L[\d.]+ [\d.]+)"/.exec(svg)?.[1];
  const places = numbers(cross?.replaceAll('h0', ' '));
  expect(places.length).toBe(8);
  const center = (at: number): number =>
    places.filter((_, own) => own % 2 === at).reduce((a, b) => a + b) / 4;
  expect(center(0)).toBeCloseTo(x.toPixel(1), 1);
  expect(center(1)).toBeGreaterThan(frame.bottom - 12);
  expect(center(1)).toBeLessThan(frame.bottom);
});

test('a smoothed line is above the raw one, which is lighter', () => {
  const raw = line([1, 5, 1, 5]);
  const paths = (one: ChartSeries): (string | undefined)[] =>
    [...chartSvg(model([one]), 300, 200).matchAll(/<path [^>]*stroke="#123456"[^>]*>/g)].map(
      ([path]) => /stroke-opacity="([\d.]+)"/.exec(path)?.[1],
    );
  expect(paths(raw)).toEqual([undefined]);
  expect(paths({ ...raw, smooth: smoothed(raw.data, 0.5) })).toEqual(['0.35', undefined]);
});

test('lines have the chosen width, or one that depends on their number', () => {
  const widths = (count: number, lineWidth?: number): (string | undefined)[] => {
    const series = Array.from({ length: count }, (_, at) => ({ ...line([1, 2]), id: `${at}` }));
    const svg = chartSvg(model(series, { lineWidth }), 300, 200);
    const all = [...svg.matchAll(/<path [^>]*stroke="#123456" stroke-width="([\d.]+)"/g)];
    return [...new Set(all.map(([, width]) => width))];
  };
  expect([widths(2), widths(20)]).toEqual([['1.5'], ['1']]);
  expect([widths(2, LINE_PX.thin), widths(20, LINE_PX.thick)]).toEqual([['1'], ['3']]);
  expect(widths(20, LINE_PX.auto)).toEqual(['1']);
});

test('a smoothed line is always part of the chart', () => {
  const smooth = Float64Array.of(9, 9, 8, 8);
  const { y } = layoutChart(model([{ ...line([1, 2, 1, 2]), smooth }]), 300, 200);
  expect(y.extent.low).toBeLessThan(1);
  expect(y.extent.high).toBeGreaterThan(9);
});

test('charts without points have a layout', () => {
  const empty = { ...line([]), data: EMPTY_SERIES };
  for (const chart of [model([]), model([empty]), model([empty], { isLogX: true, isLogY: true })]) {
    const { x, y } = layoutChart(chart, 300, 150);
    expect([x.toPixel(x.extent.low), y.toPixel(y.extent.high)].every(Number.isFinite)).toBe(true);
  }
});

test('the y axis has the ends that were chosen, unless no axis has them', () => {
  const ends = (
    yEnds: { low?: number; high?: number },
    isLogY = false,
  ): [low: number, high: number] => {
    const { low, high } = layoutChart(model([line([1, 2, 3])], { yEnds, isLogY }), 300, 150).y
      .extent;
    return [low, high];
  };
  const usual = ends({});
  expect(ends({ low: 0, high: 10 })).toEqual([0, 10]);
  expect(ends({ high: 2 })).toEqual([usual[0], 2]);
  expect(ends({ low: 5, high: 4 })).toEqual(usual);
  expect(ends({ low: 0 }, true)).toEqual(ends({}, true));
});

const NONE: ReadonlyMap<string, number> = new Map();
const RUNS = Array.from({ length: PALETTE.length }, (_, at) => `run ${at}`);

test('the color of a run is stable, and colors are used evenly', () => {
  expect(ownPlace('269e0d37f2a74de452e6b438')).toBe(ownPlace('269e0d37f2a74de452e6b438'));
  const counts = new Map<number, number>();
  for (let run = 0; run < 12_000; run++) {
    const place = ownPlace(`run ${run}`);
    counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  expect(Math.min(...counts.values())).toBeGreaterThan((0.9 * 12_000) / counts.size);
});

test('runs that are shown together have different colors, their own if possible', () => {
  const places = placeColors(RUNS, NONE, NONE);
  expect(new Set(places.values()).size).toBe(PALETTE.length);
  for (const [at, id] of RUNS.entries()) {
    const older = RUNS.slice(0, at).map(one => places.get(one));
    expect(places.get(id) === ownPlace(id)).toBe(!older.includes(ownPlace(id)));
  }
  expect(RUNS.every(id => places.get(id) === ownPlace(id))).toBe(false);
  const more = placeColors([...RUNS, ...RUNS.map(id => `another ${id}`)], NONE, NONE);
  for (const place of PALETTE.keys())
    expect([...more.values()].filter(one => one === place)).toHaveLength(2);
});

test('a run keeps its color when others are hidden or come', () => {
  const before = placeColors(RUNS, NONE, NONE);
  const fewer = RUNS.filter((_, at) => at % 3 > 0);
  const after = placeColors(fewer, before, NONE);
  expect([...after]).toEqual([...before].filter(([id]) => fewer.includes(id)));
  const more = placeColors([...fewer, 'new run'], before, NONE);
  expect(fewer.map(id => more.get(id))).toEqual(fewer.map(id => before.get(id)));
});

test('a newer run changes no color of an older run', () => {
  const many = Array.from({ length: 40 }, (_, at) => `run ${at}`);
  const all = placeColors(many, NONE, NONE);
  for (const count of many.keys()) {
    const older = many.slice(0, count);
    expect([...placeColors(older, NONE, NONE)]).toEqual([...all].slice(0, count));
  }
});

test('runs of a group have different colors, which the order of groups does not change', () => {
  const groups = [RUNS.slice(0, 6), RUNS.slice(6, 11), [RUNS[0]!, RUNS[7]!, RUNS[11]!]];
  const places = placeColors(RUNS, NONE, NONE, groups);
  for (const group of groups)
    expect(new Set(group.map(id => places.get(id))).size).toBe(group.length);
  const reversed = groups.map(group => group.toReversed()).toReversed();
  expect(placeColors(RUNS, NONE, NONE, reversed)).toEqual(places);
  // A run that is alone has its own color, whatever other runs have.
  const alone = placeColors(
    RUNS,
    NONE,
    NONE,
    RUNS.map(id => [id]),
  );
  expect([...alone]).toEqual(RUNS.map(id => [id, ownPlace(id)]));
});

test('few of many runs have different colors, and the chosen one', () => {
  const many = Array.from({ length: 45 }, (_, at) => `run ${at}`);
  const known = placeColors(many, NONE, NONE);
  const shared = many.filter(id => known.get(id) === known.get('run 0'));
  expect(shared.length).toBeGreaterThan(1);
  const places = placeColors(shared, known, new Map([[shared[1]!, 11]]));
  expect(new Set(places.values()).size).toBe(shared.length);
  expect(places.get(shared[1]!)).toBe(11);
});

test('outliers are left out on request only, and only if they are far away', () => {
  const series = line(Array.from({ length: 100 }, (_, at) => (at === 50 ? 1_000 : at / 100)));
  const x = new Axis({ low: 0, high: 99 }, 0, 100, false);
  expect(yExtent([series], x, false)).toEqual({ low: 0, high: 1_000 });
  const { low, high } = yExtent([series], x, false, true);
  expect(low).toBe(0);
  expect(high).toBeGreaterThan(0.99);
  expect(high).toBeLessThan(2);
  const calm = line(Array.from({ length: 100 }, (_, at) => at));
  expect(yExtent([calm], x, false, true)).toEqual({ low: 0, high: 99 });
});

test('the band of a group is part of the extent, and its lines are not near the pointer', () => {
  const center = line([1, 2, 3]);
  const area = { low: Float64Array.of(0, 0, NaN), high: Float64Array.of(2.5, 2.5, NaN) };
  const all = [
    { ...line([1, 2, 3]), isMember: true },
    { ...center, area },
  ];
  expect(yExtent(all, new Axis({ low: 0, high: 2 }, 0, 100, false), false)).toEqual({
    low: 0,
    high: 3,
  });
  const one = model(all);
  expect(nearPoints(one, layoutChart(one, 200, 100), 1).length).toBe(1);
  expect(chartSvg(one, 200, 100)).toContain('<polygon');
});

test('a part in view that begins at zero has a place on a logarithmic axis', () => {
  const extent = (zoom?: { low: number; high: number }, isLogX = true) =>
    layoutChart(model([line([1, 2, 3])], { isLogX, zoom }), 300, 200).x.extent;
  expect(extent({ low: 0, high: 100 })).toEqual({ low: 1, high: 100 });
  expect(extent({ low: 2, high: 100 })).toEqual({ low: 2, high: 100 });
  expect(extent({ low: -9, high: -1 })).toEqual(extent());
  expect(extent({ low: -9, high: 9 }, false)).toEqual({ low: -9, high: 9 });
});

test('a part of an axis has one end or two, in their order', () => {
  expect(partOf()).toBeUndefined();
  expect(partOf(3)).toEqual({ low: 3 });
  expect(partOf(undefined, 3)).toEqual({ high: 3 });
  expect(partOf(2, 3)).toEqual({ low: 2, high: 3 });
  expect([partOf(3, 2), partOf(3, 3)]).toEqual([undefined, undefined]);
});

test('an end that was chosen holds by itself, and on an axis that has a place for it', () => {
  const all = { low: 1, high: 5 };
  const check = (low: number | undefined, high: number | undefined, isLog = false) =>
    withEnds(all, { low, high }, isLog);
  expect(check(2, undefined)).toEqual({ low: 2, high: 5 });
  expect(check(undefined, 3)).toEqual({ low: 1, high: 3 });
  expect(check(-1, 9)).toEqual({ low: -1, high: 9 });
  expect([check(3, 2), check(3, 3), check(undefined, undefined)]).toEqual([all, all, all]);
  // All values are beyond the end.
  expect(check(10, undefined)).toEqual({ low: 10, high: 11 });
  expect(check(undefined, 0)).toEqual({ low: -1, high: 0 });
  // The other end holds if a logarithmic axis cannot have one of them.
  expect(check(0, 3, true)).toEqual({ low: 1, high: 3 });
  expect(check(2, -1, true)).toEqual({ low: 2, high: 5 });
});

test('a part in view without an end reaches to the end of the lines', () => {
  const extents = (more: Partial<ChartModel>) => {
    const { x, y } = layoutChart(model([line([1, 2, 3, 4])], more), 300, 200);
    return [x.extent, y.extent.high];
  };
  expect(extents({ zoom: { low: 1 } })[0]).toEqual({ low: 1, high: 3 });
  expect(extents({ zoom: { high: 2 } })[0]).toEqual({ low: 0, high: 2 });
  expect(extents({ isLogY: true, yEnds: { low: 0, high: 3 } })[1]).toBe(3);
});

test('the bands of many groups are fainter', () => {
  const area = { low: Float64Array.of(0, 1, 2), high: Float64Array.of(2, 3, 4) };
  const opacities = (count: number): number[] => {
    const bands = Array.from({ length: count }, () => ({ ...line([1, 2, 3]), area }));
    const drawn = chartSvg(model(bands), 200, 100).matchAll(/<polygon.*?fill-opacity="([\d.]+)"/g);
    return [...new Set([...drawn].map(({ 1: opacity }) => Number(opacity)))];
  };
  expect([1, 3, 6, 12].map(opacities)).toEqual([[0.13], [0.13], [0.065], [0.05]]);
});

test('an axis that goes back and has gaps finds its nearest point', () => {
  const series = { ...line([1, 2, 3, 4]), x: Float64Array.of(NaN, 5, 1, NaN) };
  expect(xExtent([series])).toEqual({ low: 1, high: 5 });
  const one = model([series]);
  expect(nearPoints(one, layoutChart(one, 200, 100), 1.5)[0]?.index).toBe(2);
});

test('steps begin where their first bucket does, but not on a logarithmic axis', () => {
  const { data, ...rest } = line([1, 2, 3]);
  const steps = Float64Array.of(39, 63, 95);
  const wide = { ...rest, data: { ...data, steps, width: 32 }, x: steps };
  expect(xExtent([wide])).toEqual({ low: 32, high: 95 });
  expect(xExtent([wide], true)).toEqual({ low: 39, high: 95 });
  // Times are not steps.
  expect(xExtent([{ ...wide, x: steps.slice() }])).toEqual({ low: 39, high: 95 });
});

test('a point without neighbors is a dot, and a line has none', () => {
  const dots = (values: number[], more: Partial<ChartSeries> = {}): number =>
    chartSvg(model([{ ...line(values), ...more }]), 300, 200).split('<circle').length - 1;
  expect([dots([3]), dots([1, 2, NaN, 3, NaN, 4, 5]), dots([1, 2, 3])]).toEqual([1, 1, 0]);
  expect([dots([3], { smooth: Float64Array.of(3) }), dots([NaN])]).toEqual([1, 0]);
});

test('the end of a line next to the part in view is no dot, and a point at the edge is one', async () => {
  const long = line(Array.from({ length: 11 }, (_, at) => at));
  const dots = (other: ChartSeries, zoom?: { low: number; high: number }): number =>
    chartSvg(model([long, { ...other, id: 'b' }], { zoom }), 300, 200).split('<circle').length - 1;
  // The line ends within the radius of a dot left of the frame.
  expect(dots(line([1, 2]), { low: 1.02, high: 5 })).toBe(0);
  const point = { ...line([3]), x: Float64Array.of(10) };
  expect([dots(point), dots(point, { low: 3, high: 10 })]).toEqual([1, 1]);
});

test('the step at which a branch leaves its parent is marked', () => {
  const forks = [{ x: 1, text: 'b branches from a after step 1' }];
  const marks = (all: ChartSeries[]): number =>
    chartSvg(model(all), 300, 200).split('stroke-dasharray').length - 1;
  expect(marks([line([1, 2, 3])])).toBe(0);
  expect(marks([{ ...line([1, 2, 3]), forks }, line([3, 2, 1])])).toBe(1);
  expect(marks([{ ...line([1, 2, 3]), forks: [{ x: NaN, text: '' }] }])).toBe(0);
});
