import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { EMPTY_SERIES, type SeriesData } from '../api/series_data.ts';
import { RunSchema, type SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { PALETTE } from '../plot/palette.ts';
import { schemas, type ChartsState } from '../state/routes.ts';
import { decode } from '../state/url.ts';
import { forksOf, groupOwner, type ChartLine } from './chart_groups.ts';
import { chartSeries, lineId } from './chart_series.ts';

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

const settings = (query: string): ChartsState => decode(schemas.metrics, query);

test('runs of a group are one line with a band; its runs are drawn where the band hides them', () => {
  const lines = [line('a', 'adam'), line('b', 'adam'), line('c', ''), line('d', 'adam', '{"subset":"val"}')];
  const all = new Map(lines.map((one, at) => [lineId(one), data([at, 10 * at])]));
  const found = chartSeries(lines, all, new Map(), settings(''), false);
  expect(found.map(({ label }) => label)).toEqual(['adam (2)', 'none (1)', 'adam val (1)']);
  // Both contexts are highlighted together, and with each of their runs.
  expect(found.map(({ owner }) => owner)).toEqual(
    ['adam', '', 'adam'].map(group => groupOwner(group, undefined)),
  );
  expect(found.map(({ members }) => [...(members ?? [])])).toEqual([['a', 'b'], ['c'], ['d']]);
  expect([...(found[0]?.data.last ?? [])]).toEqual([0.5, 5]);
  expect([...(found[0]?.area?.high ?? [])]).toEqual([1, 10]);
  const deviation = chartSeries(lines, all, new Map(), settings('?band=deviation'), false);
  expect(deviation.map(({ isMember = false }) => isMember)).toEqual([
    true,
    true,
    true,
    true,
    false,
    false,
    false,
  ]);
  expect(chartSeries(lines, all, new Map(), settings('?band=none'), false).at(-1)?.area).toBeUndefined();
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
    chartSeries(lines, all, new Map(), settings(query), false).map(({ label }) => label);
  expect(labels('')).toEqual(['adam · 1 (1)', 'adam · 2 (2)', 'none · 2 (1)']);
  expect(labels('?center=each')).toEqual(['a · adam · 1', 'b · adam · 2', 'c · 2', 'd · adam · 2']);
});

test('a line without the metric of the x axis is not drawn', () => {
  const lines = [line('a'), line('b')];
  const all = new Map(lines.map(one => [lineId(one), data([1, 2])]));
  const axis = new Map([
    [lineId(lines[0]!), { steps: Float64Array.of(0, 1), values: Float64Array.of(7, 9) }],
  ]);
  const found = chartSeries(lines, all, axis, settings('?x=metric&xm=tokens'), false);
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
      const axis = new Map([['1/b', { steps: Float64Array.of(0, 2), values: Float64Array.of(10, 30) }]]);
      return chartSeries(lines, all, axis, settings(query), false)[0]?.forks?.[0]?.x;
    });
  expect(places('')).toEqual([0, 1, 2, 9]);
  // After the last point there is none to share.
  expect(places('?x=metric&xm=tokens')).toEqual([10, 20, 30, 30]);
});
