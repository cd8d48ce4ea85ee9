import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { RunSchema, type Run } from '../gen/matyan/runs/v1/run_pb.ts';
import { listedMetrics, listRuns, metricKey } from './run_list.ts';

const LOSS = { name: 'loss', context: '' };

function run(name: string, last?: number): Run {
  const series = last === undefined ? [{ name: 'speed' }] : [{ ...LOSS, last }, { name: 'speed' }];
  return create(RunSchema, { runId: name, props: { name }, series });
}

const RUNS = [run('run 10', 2), run('run 9'), run('run 1', NaN), run('run 2', 1)];

function check(order: Parameters<typeof listRuns>[1], expected: string[]): void {
  expect(listRuns(RUNS, order, LOSS).map(({ runId }) => runId)).toEqual(expected);
}

test('the list of runs is sorted by name or by a value, and runs without a value are last', () => {
  check('newest', ['run 10', 'run 9', 'run 1', 'run 2']);
  check('name', ['run 1', 'run 2', 'run 9', 'run 10']);
  check('lowest', ['run 2', 'run 10', 'run 9', 'run 1']);
  check('highest', ['run 10', 'run 2', 'run 9', 'run 1']);
});

test('results come first in the metrics of the list, although other metrics are more common', () => {
  expect(listedMetrics(RUNS).map(metricKey)).toEqual(['loss ', 'speed ']);
});
