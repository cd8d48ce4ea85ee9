import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { StepSchema } from '../gen/matyan/objects/v1/objects_pb.ts';
import type { MediaSequence } from '../api/media.ts';
import { allSteps, mediaCards, mediaRows } from './media_groups.ts';

function sequence(runId: string, steps: number[]): MediaSequence {
  const objects = [{ index: 0 }, { index: 1 }];
  const all = steps.map(step => create(StepSchema, { step: BigInt(step), objects }));
  return { id: runId, runId, runName: `run ${runId}`, name: 'images', context: '{}', steps: all };
}
const a = sequence('a', [0, 10, 20]);
const b = sequence('b', [0, 10]);

test('a sequence shows its last step before the slider, and nothing before its first', () => {
  const at = (step: number | undefined): number[] =>
    mediaCards([a, b], 'run', () => step).map(({ step }) => step);
  expect(at(undefined)).toEqual([20, 20, 10, 10]);
  expect(at(15)).toEqual([10, 10, 10, 10]);
  expect(at(-1)).toEqual([]);
  expect(allSteps([a, b])).toEqual([0, 10, 20]);
});

test('cards are grouped in rows', () => {
  const rows = (
    grouping: 'run' | 'step' | 'index' | 'context',
    perRow: number,
  ): [string, number][] =>
    mediaRows(
      mediaCards([a, b], grouping, () => undefined),
      grouping,
      perRow,
    ).map(({ title, cards }) => [title, cards.length]);
  expect(rows('run', 4)).toEqual([
    ['run a', 2],
    ['run b', 2],
  ]);
  expect(rows('context', 3)).toEqual([
    ['images', 3],
    ['', 1],
  ]);
  expect(rows('index', 9)).toEqual([
    ['Index 0', 2],
    ['Index 1', 2],
  ]);
  expect(rows('step', 9)).toEqual([
    ['Step 0', 4],
    ['Step 10', 4],
    ['Step 20', 2],
  ]);
});
