import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { RunSchema } from '../gen/matyan/runs/v1/run_pb.ts';
import { schemas } from '../state/routes.ts';
import { decode, list } from '../state/url.ts';
import { projectCharts, runCharts } from './chart_groups.ts';
import { chartOf, ownSettings, settingsOf, withOwn, type OwnSettings } from './own_charts.ts';

const page = decode(schemas.metrics, '?smooth=0.5&m=lo');
const own: OwnSettings = {
  ...{ title: 'Both, of all', metric: ['loss', 'lr'], x: 'time', xm: '', smooth: 0, low: -1 },
  ...{ logx: false, logy: true, calm: false, line: 'thick', high: undefined, legend: false },
  ...{ center: 'mean', band: 'none' },
};
const run = create(RunSchema, {
  runId: 'a',
  props: { name: 'first' },
  series: [
    { name: 'loss', number: 1 },
    { name: 'lr', number: 2 },
    { name: 'other', number: 3 },
  ],
});

test('settings of charts are kept in the URL, whatever their names have in them', () => {
  const names = ['val/loss', 'a?b=c&d', 'x, y', '100 %'];
  const texts = names.reduce<string[]>((all, name) => withOwn(all, name, own), []);
  const read = ownSettings(list.read(list.write(texts)) ?? []);
  expect([...read.keys()]).toEqual(names);
  expect([...read.values()]).toEqual(names.map(() => own));
  expect([...ownSettings(withOwn(texts, 'x, y', undefined)).keys()]).not.toContain('x, y');
  expect(withOwn(texts, 'val/loss', { ...own, smooth: 0.1 }).length).toBe(names.length);
});

test('an address that was cut opens the page', () => {
  expect([...ownSettings(['%', '%E0%A4?x=time', 'loss', ''])]).toEqual([]);
});

test('a chart has the settings of the page, or its own', () => {
  expect(settingsOf(page, undefined)).toBe(page);
  const found = settingsOf(page, own);
  expect(found).toMatchObject({ smooth: 0, logy: true, low: -1, x: 'time', m: 'lo' });
});

test('a chart of several metrics has their lines, which differ', () => {
  const charts = runCharts(run);
  const [loss] = charts.filter(({ name }) => name === 'loss');
  const { name, lines } = chartOf(loss!, own, charts);
  expect(name).toBe('Both, of all');
  expect(lines.map(({ info }) => info.name)).toEqual(['loss', 'lr']);
  // Lines of one run have different colors.
  expect(new Set(lines.map(({ color }) => color)).size).toBe(2);
  expect(chartOf(loss!, undefined, charts)).toBe(loss);
});

test('lines of several runs keep their colors, and metrics differ by dashes', () => {
  const other = create(RunSchema, { ...run, runId: 'b' });
  const charts = projectCharts([run, other]);
  const loss = charts.find(({ name }) => name === 'loss')!;
  const { lines } = chartOf(loss, { ...own, title: '' }, charts);
  expect(lines.length).toBe(4);
  for (const id of ['a', 'b']) {
    const two = lines.filter(({ runId }) => runId === id);
    expect(new Set(two.map(({ color }) => color)).size).toBe(1);
    expect(new Set(two.map(({ dash }) => JSON.stringify(dash))).size).toBe(2);
    expect(two.map(({ stroke }) => stroke)).toEqual(['loss', 'lr']);
  }
});
