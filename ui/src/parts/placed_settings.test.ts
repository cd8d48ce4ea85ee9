import { create } from '@bufbuild/protobuf';
import { afterEach, expect, test } from 'vitest';

import { setGoals, type MetricGoal } from '../format/goals.svelte.ts';
import { RunSchema } from '../gen/matyan/runs/v1/run_pb.ts';
import { schemas } from '../state/routes.ts';
import { decode } from '../state/url.ts';
import { projectCharts, type ChartLine } from './chart_groups.ts';
import { chartOf, type OwnSettings } from './own_charts.ts';
import { commonAxis, hasAxisOf, placedSettings } from './placed_settings.ts';

const page = (query: string) => decode(schemas.metrics, query);
const names = ['loss', 'acc', 'lr', 'epoch', 'tokens'];
const run = create(RunSchema, {
  runId: 'a',
  series: names.map((name, number) => ({ name, number })),
});

function state(axes: Record<string, string>): void {
  const none = { isLower: undefined, isBest: undefined, format: undefined, unit: '' };
  setGoals(
    Object.entries(axes).map(([name, xAxis]): MetricGoal => ({
      name,
      xAxis,
      ...none,
      isPrimary: false,
      updatedUs: 1n,
    })),
  );
}

/** The lines of the charts of some metrics, as a page has them. */
function lines(metrics: string[], query = ''): ChartLine[] {
  const charts = projectCharts([run], { axis: commonAxis(page(query)) });
  return metrics.flatMap(metric => charts.find(({ name }) => name === metric)?.lines ?? []);
}

afterEach(() => setGoals([]));

test('a chart without a choice has the x axis that is stated for its metric', () => {
  state({ loss: 'epoch', acc: 'epoch', lr: 'absent' });
  const axis = (metrics: string[], query = ''): string[] => {
    const { x, xm } = placedSettings(page(query), lines(metrics, query));
    return [x, xm];
  };
  expect(axis(['loss'])).toEqual(['metric', 'epoch']);
  expect(axis(['loss', 'acc'])).toEqual(['metric', 'epoch']);
  expect(lines(['loss']).map(one => one.axis)).toEqual([3]);
  // Two metrics that differ, a metric that no run has, and a metric without a stated axis.
  for (const metrics of [['loss', 'tokens'], ['lr'], ['tokens']])
    expect(axis(metrics)).toEqual(['step', '']);
  expect(axis(['loss'], '?x=step')).toEqual(['step', '']);
  expect(axis(['loss'], '?x=metric&xm=tokens')).toEqual(['metric', 'tokens']);
  expect(lines(['loss'], '?x=metric&xm=tokens').map(one => one.axis)).toEqual([4]);
});

test('a chart with another x axis than its page is zoomed alone', () => {
  state({ loss: 'epoch' });
  const isTogether = (metric: string, query: string, own = query): boolean =>
    hasAxisOf(page(query), page(own), lines([metric], query));
  expect(isTogether('acc', '')).toBe(true);
  expect(isTogether('loss', '')).toBe(false);
  expect(isTogether('loss', '?x=step')).toBe(true);
  expect(isTogether('loss', '?x=metric&xm=tokens', '?x=metric&xm=epoch')).toBe(false);
});

test('a chart with settings of its own follows what is stated, whatever its page shows', () => {
  state({ loss: 'epoch' });
  const charts = projectCharts([run], { axis: 'tokens' });
  const own: OwnSettings = {
    ...{ title: '', metric: ['loss'], x: 'auto', xm: '', smooth: 0, low: undefined },
    ...{ logx: false, logy: false, calm: false, line: 'auto', high: undefined, legend: true },
    ...{ center: 'mean', band: 'none' },
  };
  const [loss] = charts.filter(({ name }) => name === 'loss');
  expect(chartOf(loss!, own, charts).lines.map(({ axis }) => axis)).toEqual([3]);
});
