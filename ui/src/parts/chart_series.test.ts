import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { coarsen, EMPTY_SERIES, lowerBound, type SeriesData } from '../api/series_data.ts';
import { RunSchema, type SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import type { ChartSeries } from '../plot/lines.ts';
import { PALETTE } from '../plot/palette.ts';
import { schemas } from '../state/routes.ts';
import { decode } from '../state/url.ts';
import { forksOf, groupOwner, type ChartLine } from './chart_groups.ts';
import { chartSeries, lineId, type ChartData } from './chart_series.ts';
import { placedSettings, type PlacedSettings } from './placed_settings.ts';

function line(runId: string, group?: string, context = '{}'): ChartLine {
  const info = { number: 1, name: 'loss', context } as SeriesInfo;
  const color = PALETTE[0] as ChartLine['color'];
  return { runId, info, label: runId, color, dash: [], startMs: 0, group, forks: [] };
}

function data(values: number[]): SeriesData {
  const last = Float64Array.from(values);
  const steps = Float64Array.from(values.keys());
  return { ...EMPTY_SERIES, steps, last, min: last, max: last };
}

const read = (series: ChartData['series']): ChartData => ({ series, axis: new Map() });
const settings = (query: string): PlacedSettings =>
  placedSettings(decode(schemas.metrics, query), []);

test('runs of a group are one line with a band; its runs are drawn where the band hides them', () => {
  const lines = [
    line('a', 'adam'),
    line('b', 'adam'),
    line('c', ''),
    line('d', 'adam', '{"subset":"val"}'),
  ];
  const all = new Map(lines.map((one, at) => [lineId(one), data([at, 10 * at])]));
  const found = chartSeries(lines, read(all), settings(''), false);
  expect(found.map(({ label }) => label)).toEqual(['adam (2)', 'none (1)', 'adam val (1)']);
  // Both contexts are highlighted together, and with each of their runs.
  expect(found.map(({ owner }) => owner)).toEqual(
    ['adam', '', 'adam'].map(group => groupOwner(group, undefined)),
  );
  expect(found.map(({ members }) => [...(members ?? [])])).toEqual([['a', 'b'], ['c'], ['d']]);
  expect([...(found[0]?.data.last ?? [])]).toEqual([0.5, 5]);
  expect([...(found[0]?.area?.high ?? [])]).toEqual([1, 10]);
  const deviation = chartSeries(lines, read(all), settings('?band=deviation'), false);
  expect(deviation.map(({ isMember = false }) => isMember)).toEqual([
    true,
    true,
    true,
    true,
    false,
    false,
    false,
  ]);
  expect(chartSeries(lines, read(all), settings('?band=none'), false).at(-1)?.area).toBeUndefined();
});

test('runs of a group are a line each, or one for each of their dashes', () => {
  const lines = [
    { ...line('a', 'adam'), stroke: '1' },
    { ...line('b', 'adam'), stroke: '2' },
    { ...line('c', ''), stroke: '2' },
    { ...line('d', 'adam'), stroke: '2' },
  ];
  const all = new Map(lines.map((one, at) => [lineId(one), data([at])]));
  const labels = (query: string): string[] =>
    chartSeries(lines, read(all), settings(query), false).map(({ label }) => label);
  expect(labels('')).toEqual(['adam · 1 (1)', 'adam · 2 (2)', 'none · 2 (1)']);
  expect(labels('?center=each')).toEqual(['a · adam · 1', 'b · adam · 2', 'c · 2', 'd · adam · 2']);
});

test('a line without the metric of the x axis is not drawn', () => {
  const lines = [line('a'), line('b')];
  const all = new Map(lines.map(one => [lineId(one), data([1, 2])]));
  const axis = new Map([
    [lineId(lines[0]!), { steps: Float64Array.of(0, 1), values: Float64Array.of(7, 9) }],
  ]);
  const found = chartSeries(lines, { series: all, axis }, settings('?x=metric&xm=tokens'), false);
  expect(found.map(({ x }) => [...x])).toEqual([[7, 9], []]);
  expect(found[1]?.data.last.length).toBe(0);
});

test('a branch leaves its parent at its step, on every axis', () => {
  const parent = { runId: 'a', step: 1n };
  const branch = create(RunSchema, { runId: 'b', props: { name: 'beta', parent } });
  const forks = forksOf('b', [branch, create(RunSchema, { runId: 'a' })]);
  expect(forks).toEqual([{ step: 1, text: 'beta branches from a after step 1' }]);
  expect(forksOf('a', [branch])).toEqual(forks);
  expect([forksOf('c', [branch]), forksOf('b', [])]).toEqual([[], []]);
  const all = new Map([['1/b', data([5, 6, 7])]]);
  const places = (query: string): (number | undefined)[] =>
    [0, 1, 2, 9].map(step => {
      const lines = [{ ...line('b'), forks: [{ step, text: '' }] }];
      const axis = new Map([
        ['1/b', { steps: Float64Array.of(0, 2), values: Float64Array.of(10, 30) }],
      ]);
      return chartSeries(lines, { series: all, axis }, settings(query), false)[0]?.forks?.[0]?.x;
    });
  expect(places('')).toEqual([0, 1, 2, 9]);
  // After the last point there is none to share.
  expect(places('?x=metric&xm=tokens')).toEqual([10, 20, 30, 30]);
});

/** Noise with a standard deviation of 1 around a slow wave, a point a second. */
function noisy(seed: number, length = 100_000): SeriesData {
  let state = seed;
  const dice = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  const noise = (): number => Array.from({ length: 12 }, dice).reduce((sum, one) => sum + one, -6);
  const own = data(Array.from({ length }, (_, at) => Math.sin(at / 20_000) + noise()));
  const none = new Uint32Array(length);
  const times = own.steps.map(step => step * 1e6);
  return { ...own, times, nan: none, positiveInfinity: none, negativeInfinity: none };
}

function part(all: SeriesData, from: number, to: number): SeriesData {
  const columns = Object.entries(all).map(([name, own]) => [
    name,
    typeof own === 'number' ? own : (own as Float64Array).slice(from, to),
  ]);
  return Object.fromEntries(columns) as unknown as SeriesData;
}

/**
 * * The largest difference between two smoothed lines near the same places. Near the start of a
 * series, few points have been averaged.
 */
function apart(one: ChartSeries, other: ChartSeries, start: number): number {
  const differences = Array.from(one.x.entries(), ([at, place]) => {
    const next = lowerBound(other.x, place);
    return place >= start && next < other.x.length
      ? Math.abs(one.smooth![at]! - other.smooth![next]!)
      : 0;
  });
  return Math.max(...differences);
}

const NOISE = [noisy(1), noisy(2)];

test.each([
  ['a line', undefined, 0.9, ''],
  ['a line, a lot', undefined, 0.99, ''],
  ['a line by time', undefined, 0.9, '&x=relative'],
  ['a group', 'adam', 0.9, ''],
  ['a group by time', 'adam', 0.9, '&x=relative'],
])('smoothing of %s is the same at every width and zoom', (_, group, weight, more) => {
  const lines = [line('a', group), line('b', group)];
  const thinned = (buckets: number, from = 0, to = 100_000): ChartData =>
    read(
      new Map(lines.map((one, at) => [lineId(one), coarsen(part(NOISE[at]!, from, to), buckets)])),
    );
  const wanted = settings(`?smooth=${weight}${more}`);
  const drawn = (own: ChartData, whole?: ChartData): ChartSeries =>
    chartSeries(lines, own, wanted, false, whole)[0]!;
  const wide = thinned(1_600);
  const all = drawn(wide);
  expect(apart(drawn(thinned(400)), all, all.x.at(-1)! / 20)).toBeLessThan(0.4);
  // Single points, and buckets.
  for (const to of [50_900, 80_000]) {
    const zoomed = thinned(1_000, 50_000, to);
    expect(apart(drawn(zoomed, wide), all, 0)).toBeLessThan(0.4);
    // Without the whole, the smoothed line starts from the noise of one point.
    expect(apart(drawn(zoomed), all, 0)).toBeGreaterThan(0.5);
  }
});

test('smoothing counts steps, and values of groups without steps', () => {
  // 300 epochs, at places that are less than 1 apart.
  const lines = [line('a', 'adam'), line('b', 'adam')];
  const own = data(Array.from({ length: 300 }, (_, at) => at % 2));
  const all = read(new Map(lines.map(one => [lineId(one), own])));
  const axis = new Map(
    lines.map(one => [
      lineId(one),
      { steps: own.steps, values: own.steps.map(step => step / 1_000) },
    ]),
  );
  const smooth = (query: string, axis: ChartData['axis']): number[] => [
    ...chartSeries(lines, { ...all, axis }, settings(query), false)[0]!.smooth!,
  ];
  const bySteps = smooth('?smooth=0.9', new Map());
  expect(bySteps.at(-1)).toBeCloseTo(0.5, 1);
  const byMetric = smooth('?smooth=0.9&x=metric&xm=tokens', axis);
  for (const [at, value] of byMetric.entries()) expect(value).toBeCloseTo(bySteps[at]!, 9);
});
