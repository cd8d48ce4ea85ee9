import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { StepSchema } from '../gen/matyan/objects/v1/objects_pb.ts';
import type { MediaSequence } from '../api/media.ts';
import { allSteps, mediaCards, mediaRows, sliderStep, walkFrom } from './media_groups.ts';

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

test('a step before all steps is the first', () => {
  const steps = allSteps([sequence('c', [5, 15])]);
  expect([undefined, -1, 5, 7, 20].map(at => sliderStep(at, steps))).toEqual([
    ...[undefined, 5, 5, 7, 20],
  ]);
  expect(sliderStep(7, [])).toBe(7);
});

test('cards are grouped in rows', () => {
  const rows = (
    grouping: 'run' | 'step' | 'index' | 'name' | 'context',
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

function series(name: string, context: string): MediaSequence {
  return { ...a, id: `${name} ${context}`, name, context };
}

test('names and the numbers in contexts are in their natural order', () => {
  const all = [
    series('texts', '{"layer":16}'),
    series('images', '{}'),
    series('texts', '{"layer":2}'),
  ];
  const cards = mediaCards(all, 'run', () => 0).filter(({ object }) => object.index === 0);
  expect(cards.map(({ sequence }) => sequence.id)).toEqual([
    'images {}',
    'texts {"layer":2}',
    'texts {"layer":16}',
  ]);
  // All contexts of a name are in one row.
  const rows = mediaRows(cards, 'name', 9);
  expect(rows.map(({ title, cards }) => [title, cards.length])).toEqual([
    ['images', 1],
    ['texts', 2],
  ]);
  expect(mediaRows(cards, 'context', 9).length).toBe(3);
});

test('a walk leads to the cards next to a card, and through the steps of its object', () => {
  const cards = mediaCards([a, b], 'run', () => 10);
  expect(walkFrom(cards, cards[0]!)).toEqual({
    ...{ previous: undefined, next: cards[1], steps: [0, 10, 20], at: 1 },
  });
  expect(walkFrom(cards, cards[3]!)).toMatchObject({ previous: cards[2], next: undefined });
});
