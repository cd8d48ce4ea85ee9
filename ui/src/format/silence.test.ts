import { expect, test } from 'vitest';

import { progressOf, silentMs } from './silence.ts';
import { MINUTE, wholeDuration } from './time.ts';

const NOW = Date.UTC(2026, 10, 27, 12);
const us = (ms: number): bigint => BigInt(ms) * 1_000n;

test('a run is silent after some minutes, by the clock of the server', () => {
  const active = { active: true, lastDataUs: us(NOW) };
  expect(silentMs(active, NOW + 4 * MINUTE)).toBeUndefined();
  expect(silentMs(active, NOW - MINUTE)).toBeUndefined();
  expect(silentMs(active, undefined)).toBeUndefined();
  expect(silentMs({ active: true, lastDataUs: undefined }, NOW)).toBeUndefined();
  expect(silentMs({ active: false, lastDataUs: us(NOW) }, NOW + 60 * MINUTE)).toBeUndefined();
  expect(wholeDuration(silentMs(active, NOW + 6.5 * MINUTE) ?? 0)).toBe('6 min');
  expect([59, 60, 1_439, 1_440, 5_000].map(minutes => wholeDuration(minutes * MINUTE))).toEqual([
    '59 min',
    '1 h',
    '23 h',
    '1 d',
    '3 d',
  ]);
});

test('the progress is the highest step of all that were reported', () => {
  const params = (total: unknown) => ({ __progress__: { total_steps: total as bigint } });
  const series = (...steps: number[]) =>
    steps.map(step => ({ lastStep: BigInt(step), count: BigInt(step + 1) }));
  expect(progressOf(params(100), series(49, 24))).toBe(0.5);
  expect(progressOf(params(100n), series(99))).toBe(1);
  expect(progressOf(params(10), series(99))).toBe(1);
  expect(progressOf(params(10), [])).toBeUndefined();
  expect(progressOf(params(10), [{ lastStep: 0n, count: 0n }])).toBeUndefined();
  // A param with such a name is not guessed.
  expect(progressOf({ max_steps: 100 }, series(49))).toBeUndefined();
  for (const wrong of ['many', null, 0, -1, {}])
    expect(progressOf(params(wrong), series(49))).toBeUndefined();
});
