/** The computations of charts, compared with numpy: `numpy_values.py` writes the values. */
import { describe, expect, test } from 'vitest';

import { EMPTY_SERIES } from '../api/series_data.ts';
import { smoothed } from '../plot/lines.ts';
import { Axis } from '../plot/axis.ts';
import type { ParamAxis } from '../pages/params/axes.ts';
import { dots, trend } from '../pages/params/scatter.ts';
import { rankCorrelation } from '../pages/params/statistics.ts';
import { band, type BandKind, type Center, type Member } from './bands.ts';
import values from './numpy_values.json';

/** NaN and infinities are texts. */
type Values = (number | string)[];

interface Expected {
  smoothed: { weight: number; values: Values; expected: Values }[];
  bands: ({ lines: { x: Values; values: Values }[]; x: Values } & Record<Column, Values>)[];
  correlation: { a: Values; b: Values; pearson: number; spearman: number; slope: number };
}
type Column = 'mean' | 'median' | 'low' | 'high' | 'deviation' | 'confidence';

const EXPECTED = values as Expected;

const numbers = (values: Values): Float64Array => Float64Array.from(values, Number);

function same(found: Float64Array, expected: Values, tolerance = 1e-12): void {
  expect(found.length).toBe(expected.length);
  for (const [at, value] of numbers(expected).entries()) {
    const own = found[at] as number;
    if (Number.isNaN(value)) expect(own).toBeNaN();
    else
      expect(Math.abs(own - value)).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(value)));
  }
}

test.each(EXPECTED.smoothed)('smoothing with weight $weight', ({ weight, values, expected }) => {
  const last = numbers(values);
  // Per point, wherever the points are.
  for (const step of [1, 1_000]) {
    const steps = last.map((_, at) => at * step);
    same(smoothed({ width: 1, steps, last }, weight), expected);
  }
});

describe.each(EXPECTED.bands)('groups of runs', ({ lines, x, ...expected }) => {
  const members = lines.map(({ x, values }): Member => {
    const last = numbers(values);
    const finite = last.map(value => (Number.isFinite(value) ? value : NaN));
    return { x: numbers(x), data: { ...EMPTY_SERIES, min: finite, max: finite, last } };
  });
  const found = (center: Center, kind: BandKind) => band(members, center, kind);
  const half = (kind: BandKind): Float64Array => {
    const { high, center } = found('mean', kind);
    return high.map((value, at) => value - (center[at] as number));
  };

  test('centers', () => {
    same(found('mean', 'extremes').x, x);
    same(found('mean', 'extremes').center, expected.mean);
    same(found('median', 'extremes').center, expected.median);
  });
  test('lowest and highest values', () => {
    same(found('mean', 'extremes').low, expected.low);
    same(found('mean', 'extremes').high, expected.high);
  });
  test('standard deviation', () => same(half('deviation'), expected.deviation));
  // The quantiles have three digits, and are interpolated beyond thirty degrees of freedom.
  test('95 % confidence', () => same(half('confidence'), expected.confidence, 1e-3));
});

test('correlations and the trend', () => {
  const { a, b, pearson, spearman, slope } = EXPECTED.correlation;
  const axis = (values: Values): ParamAxis => {
    const own = numbers(values);
    const extent = { low: Math.min(...own), high: Math.max(...own) };
    const column = { kind: 'param' as const, segments: ['a'] };
    return {
      column,
      text: 'a',
      title: 'a',
      categories: [],
      values: own,
      axis: new Axis(extent, 0, 1, false),
      outliers: new Int8Array(own.length),
      canBeLog: false,
      isLimited: false,
    };
  };
  const x = axis(a);
  const y = axis(b);
  const found = trend(x, y, dots(x, y, a.map(String)))!;
  const [rise, run] = [1, 0].map(at => {
    const of = [x, y][at]!.axis;
    return of.toValue(found.to[at]!) - of.toValue(found.from[at]!);
  }) as [number, number];
  expect(rankCorrelation(x.values, y.values).rho).toBeCloseTo(spearman, 12);
  expect(found.rho).toBeCloseTo(spearman, 12);
  expect(found.r).toBeCloseTo(pearson, 12);
  expect(rise / run).toBeCloseTo(slope, 12);
});
