import { expect, test } from 'vitest';

import type { Step } from '../gen/matyan/objects/v1/objects_pb.ts';
import { distributionSteps } from './distribution_steps.ts';

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
