import { expect, test } from 'vitest';

import type { Step } from '../gen/matyan/objects/v1/objects_pb.ts';
import {
  barPath,
  distributionExtents,
  distributionKey,
  distributionSteps,
} from './distribution_steps.ts';

function step(step: number, low: number, high: number, weights: number[]): Step {
  const kind = { case: 'distribution', value: { low, high, weights } };
  return {
    step: BigInt(step),
    objects: weights.length > 0 ? [{ index: 0, kind }] : [],
  } as unknown as Step;
}

test('distributions with other ranges are spread over the same bins', () => {
  const found = distributionSteps(
    [step(0, 0, 2, [1, 3]), step(5, 1, 4, [2]), step(9, 0, 1, [])],
    4,
  )!;
  expect(found.steps).toEqual([0, 5]);
  expect([found.low, found.high]).toEqual([0, 4]);
  expect([...found.rows[0]!]).toEqual([0.25, 0.75, 0, 0]);
  expect([...found.rows[1]!].map(share => Number(share.toFixed(6)))).toEqual([
    0, 0.333333, 0.333333, 0.333333,
  ]);
  expect(found.most).toBe(0.75);
});

test('every row has all of its values, whatever the bins are', () => {
  const found = distributionSteps(
    [step(0, -1, 1, [1, 2, 3, 4, 5, 6, 7]), step(1, 0.3, 0.3, [9])],
    5,
  )!;
  for (const row of found.rows) expect(row.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
  expect(distributionSteps([])).toBeUndefined();
});

test('distributions of a name and context have one range, over all steps and runs', () => {
  const of = (runId: string, context: string, ...steps: Step[]) => ({
    ...{ id: runId + context, runId, runName: runId, name: 'weights', context, steps },
  });
  const first = of('a', '{"layer":1}', step(0, -1, 1, [1, 2]), step(1, -3, 2, [1]));
  const other = of('a', '{"layer":2}', step(0, 5, 6, [1]), step(1, -Infinity, 6, [1]));
  const same = of('b', '{"layer":1}', step(0, 0, 4, [1]), step(1, -9, 9, []));
  const extents = distributionExtents([first, other, same]);
  expect(extents.get(distributionKey(same))).toEqual({ low: -3, high: 4 });
  expect(extents.get(distributionKey(other))).toEqual({ low: 5, high: 6 });
  expect(extents.size).toBe(2);
});

test('bars are where their values are in the range', () => {
  const kind = (low: number, high: number, weights: number[]) =>
    step(0, low, high, weights).objects[0]!.kind.value as Parameters<typeof barPath>[0];
  const own = kind(0, 2, [1, 2]);
  expect(barPath(own, own)).toBe('M0 1V0.5h0.5V1zM0.5 1V0h0.5V1z');
  expect(barPath(own, { low: -2, high: 2 })).toBe('M0.5 1V0.5h0.25V1zM0.75 1V0h0.25V1z');
  // Equal values are a thin bar in a wide range, and fill their own.
  expect(barPath(kind(1, 1, [3]), { low: 0, high: 2 })).toBe('M0.5 1V0h0.004V1z');
  expect(barPath(kind(1, 1, [3]), { low: 1, high: 1 })).toBe('M0 1V0h1V1z');
});
