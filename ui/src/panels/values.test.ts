import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { RunSchema, type Run } from '../gen/matyan/runs/v1/run_pb.ts';
import { barExtent, barsOf, lackText, numberOf, scopeText, valueOf } from './values.ts';

function run(runId: string, series: { name: string; last: number; context?: string }[]): Run {
  return create(RunSchema, { runId, props: { name: `name of ${runId}` }, series });
}

const RUNS = [
  run('a', [{ name: 'loss', last: 3 }]),
  run('b', [{ name: 'loss', last: 1 }]),
  run('c', [{ name: 'accuracy', last: 0.5 }]),
  run('d', [{ name: 'loss', last: NaN }]),
  run('e', [{ name: 'loss', last: 2 }]),
];

test('the value of a run is the value without a context, if there is one', () => {
  const both = [
    { name: 'loss', context: '{"subset":"val"}', last: 5 },
    { name: 'loss', context: '{}', last: 6 },
  ];
  expect(valueOf(run('x', both), 'loss')).toBe(6);
  expect(valueOf(run('x', both.slice(0, 1)), 'loss')).toBe(5);
  expect(valueOf(run('x', both), 'lo')).toBeUndefined();
});

test('the best bar is the first, and runs without a value have none', () => {
  expect(barsOf(RUNS, 'loss').map(({ id }) => id)).toEqual(['b', 'e', 'a']);
  const accurate = [...RUNS, run('f', [{ name: 'accuracy', last: 0.9 }])];
  expect(barsOf(accurate, 'accuracy').map(({ title }) => title)).toEqual([
    'name of f',
    'name of c',
  ]);
});

test('the bar of a group is the mean, from the lowest to the highest value', () => {
  const groupOf = ({ runId }: Run): string => (runId === 'b' ? '' : 'others');
  expect(barsOf(RUNS, 'loss', groupOf)).toMatchObject([
    { id: '', title: 'none', value: 1, low: 1, high: 1 },
    { id: 'others', title: 'others', value: 2.5, low: 2, high: 3 },
  ]);
});

test('bars begin at zero', () => {
  expect(barExtent(barsOf(RUNS, 'loss'))).toEqual({ low: 0, high: 3 });
  expect(barExtent([])).toEqual({ low: 0, high: 1 });
});

test('one number stands for all runs', () => {
  expect(numberOf(RUNS, 'loss', 'best')).toMatchObject({ value: 1, run: RUNS[1], count: 3 });
  expect(numberOf(RUNS, 'loss', 'mean').value).toBe(2);
  expect(numberOf(RUNS, 'loss', 'median').value).toBe(2);
  expect(numberOf(RUNS.slice(0, 2), 'loss', 'median').value).toBe(2);
  expect(numberOf(RUNS, 'loss', 'count').value).toBe(3);
  expect(numberOf(RUNS, '', 'count').value).toBe(5);
  expect(numberOf(RUNS, 'missing', 'median')).toEqual({
    value: undefined,
    run: undefined,
    count: 0,
  });
});

test('a panel says that it does not know older runs', () => {
  expect(scopeText(50, false)).toBe('');
  expect(scopeText(1_000, true)).toBe('of the newest 1\u202f000 runs');
  expect(scopeText(1, true)).toBe('of the newest run');
  expect(lackText('loss', '', 3, false)).toBe('No run has loss.');
  expect(lackText('loss', 'run.active', 3, false)).toBe('No run of this query has loss.');
  expect(lackText('loss', 'run.active', 50, true)).toBe(
    'None of the newest 50 runs of this query has loss.',
  );
  expect(lackText('loss', '', 1, true)).toBe('The newest run does not have loss.');
});
