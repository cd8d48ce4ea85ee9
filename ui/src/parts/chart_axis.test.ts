import { expect, test } from 'vitest';

import { EMPTY_SERIES } from '../api/series_data.ts';
import type { SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { positions, stepsAround, stepsIn } from './chart_axis.ts';

const steps = Float64Array.of(0, 5, 10, 15);
const data = { ...EMPTY_SERIES, steps, times: steps.map(step => 1e6 * (100 + step)) };
const values = (all: [step: number, value: number][]) => ({
  steps: Float64Array.from(all, ([step]) => step),
  values: Float64Array.from(all, ([, value]) => value),
});

test('places on the axis are steps, times, epochs or values of another metric', () => {
  expect(positions('step', data, 0, undefined)).toBe(steps);
  expect([...positions('time', data, 50_000, undefined)]).toEqual([
    100_000, 105_000, 110_000, 115_000,
  ]);
  expect([...positions('relative', data, 100_000, undefined)]).toEqual([0, 5_000, 10_000, 15_000]);
  const epochs = values([
    [0, 1],
    [5, 1],
    [10, 2],
    [15, 2],
  ]);
  expect([...positions('epoch', data, 0, epochs)]).toEqual([1, 1.5, 2, 2.5]);
  const metric = values([
    [0, 10],
    [10, 30],
  ]);
  expect([...positions('metric', data, 0, metric)]).toEqual([10, 20, 30, NaN]);
  expect(positions('metric', data, 0, undefined).length).toBe(0);
});

test('a zoom is a range of steps unless the axis goes back', () => {
  const x = positions('relative', data, 100_000, undefined);
  expect(stepsIn({ low: 6_000, high: 9_000 }, [{ x, data }])).toEqual({ from: 5, to: 10 });
  expect(stepsIn({ low: 0, high: 1 }, [{ x: Float64Array.of(2, 1, 3, 4), data }])).toBeUndefined();
  expect(stepsIn({ low: 6_000 }, [{ x, data }])).toEqual({ from: 5 });
  expect(stepsIn({ high: 9_000 }, [{ x, data }])).toEqual({ to: 10 });
});

test('a part of the steps has the next points on both sides, and as much detail', () => {
  const lines = (count: number, lastStep: number) => [
    { count: BigInt(count), firstStep: 0n, lastStep: BigInt(lastStep) } as SeriesInfo,
  ];
  const zoom = { low: 100.2, high: 299.9 };
  expect(stepsAround(zoom, lines(1_000, 999), 400)).toEqual({ from: 99, to: 301, pixels: 404 });
  expect(stepsAround(zoom, lines(101, 5_000), 400)).toEqual({ from: 36, to: 364, pixels: 656 });
  // A part without an end has the points that arrive there, too.
  expect(stepsAround({ low: 700 }, lines(1_000, 999), 400)).toEqual({ from: 699, pixels: 403 });
  expect(stepsAround({ high: 200 }, lines(1_000, 999), 400)).toEqual({ to: 201, pixels: 404 });
  // The detail is never finer than the part itself; a series with at most one point has no distance
  // to the next.
  expect(stepsAround(zoom, lines(11, 5_000), 400)).toEqual({ from: -100, to: 500, pixels: 1_200 });
  for (const count of [0, 1])
    expect(stepsAround({ low: 5, high: 5 }, lines(count, 0), 400)).toEqual({
      from: 4,
      to: 6,
      pixels: 1_200,
    });
});
