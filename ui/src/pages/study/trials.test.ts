import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import {
  Direction,
  StudySchema,
  TrialParamSchema,
  TrialSchema,
  TrialState,
  type Trial,
} from '../../gen/matyan/studies/v1/studies_pb.ts';
import { bestTrials, paramNames, paramValue, sortedTrials, stateCounts } from './trials.ts';

const { COMPLETE, FAILED, PRUNED, RUNNING } = TrialState;

function study(...directions: Direction[]) {
  return create(StudySchema, { directions });
}

function trial(number: number, state: TrialState, ...values: number[]): Trial {
  return create(TrialSchema, { number, state, values });
}

test('the best trial comes first, and unfinished ones last', () => {
  const trials = [
    trial(0, COMPLETE, 3),
    trial(1, PRUNED, 0),
    trial(2, COMPLETE, 1),
    trial(3, COMPLETE, 1),
    trial(4, RUNNING),
    trial(5, COMPLETE, Infinity),
  ];
  const numbers = (direction: Direction): number[] =>
    sortedTrials(study(direction), trials).map(({ number }) => number);
  expect(numbers(Direction.MINIMIZE)).toEqual([2, 3, 0, 5, 4, 1]);
  expect(numbers(Direction.MAXIMIZE)).toEqual([5, 0, 2, 3, 4, 1]);
  expect(bestTrials(study(Direction.MINIMIZE), trials)).toEqual(new Set([2]));
  expect(bestTrials(study(Direction.MINIMIZE), [])).toEqual(new Set());
  expect(stateCounts(trials)).toEqual([
    ['complete', 4],
    ['running', 1],
    ['pruned', 1],
  ]);
});

test('several objectives have several best trials', () => {
  const trials = [
    trial(0, COMPLETE, 1, 1),
    trial(1, COMPLETE, 2, 5),
    trial(2, COMPLETE, 2, 4),
    trial(3, FAILED, 0, 9),
    trial(4, COMPLETE, NaN, 9),
  ];
  const best = bestTrials(study(Direction.MINIMIZE, Direction.MAXIMIZE), trials);
  expect(best.has(0) && best.has(1)).toBe(true);
  expect(best.has(2) || best.has(3)).toBe(false);
});

test('a category is shown by its name', () => {
  const param = (value: number, distribution: string) =>
    paramValue(create(TrialParamSchema, { name: 'x', value, distribution }));
  const choices = (text: string): string =>
    `{"name": "CategoricalDistribution", "attributes": {"choices": ${text}}}`;
  expect(param(1, choices('["adam", "sgd"]'))).toBe('sgd');
  expect(param(0, choices('[true, null]'))).toBe('true');
  expect(param(1, choices('[true, null]'))).toBe('null');
  expect(param(7, choices('["a"]'))).toBe(7);
  expect(param(0, choices('[NaN]'))).toBe(0);
  expect(param(0.5, '{"name": "FloatDistribution", "attributes": {}}')).toBe(0.5);
});

test('params have the order in which they were set', () => {
  const named = (...names: string[]): Trial => {
    const params = names.map((name): MessageInitShape<typeof TrialParamSchema> => ({ name }));
    return create(TrialSchema, { params });
  };
  const trials = [named('z', 'a'), named('b', 'a')];
  expect(paramNames(trials, 9)).toEqual(['z', 'a', 'b']);
  expect(paramNames(trials, 2)).toEqual(['z', 'a']);
});
