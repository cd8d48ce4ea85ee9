import { expect, test } from 'vitest';

import type { RunRow } from '../runs/table.svelte.ts';
import { dependences, paramAxis, rampColor } from './axes.ts';
import { brushText, insideOf, parseBrush } from './brushes.ts';
import { dots, trend } from './scatter.ts';
import { groupCorrelation, rankCorrelation, ranks } from './statistics.ts';

const rows = (values: readonly object[]): RunRow[] =>
  values.map(params => ({ run: { series: [] }, params }) as unknown as RunRow);
const param = (name: string) => ({ kind: 'param' as const, segments: [name] });

test('equal values share a rank', () => {
  expect([...ranks(Float64Array.of(10, 20, NaN, 20, 5))]).toEqual([1, 2.5, NaN, 2.5, 0]);
});

test('rank correlation is that of scipy', () => {
  // scipy.stats.spearmanr([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]).statistic
  const found = rankCorrelation(Float64Array.of(1, 2, 3, 4, 5, NaN), Float64Array.of(5, 6, 7, 8, 7, 1));
  expect(found.rho).toBeCloseTo(0.8207826816681233, 12);
  expect(found.runs).toBe(5);
  expect(rankCorrelation(Float64Array.of(1, 1), Float64Array.of(1, 2)).rho).toBeNaN();
});

test('the correlation of groups is the effect size of the test of Kruskal and Wallis', () => {
  const groups = Float64Array.of(0, 0, 0, 1, 1, 1, 2, 2, 2, NaN);
  const values = Float64Array.of(1, 2, 2, 4, 5, 6, 7, 3, 9, 8);
  // The statistic of [1, 2, 2], [4, 5, 6] and [7, 3, 9], corrected for ties.
  const h = 5.647058823529413;
  const found = groupCorrelation(groups, values);
  expect(found.rho).toBeCloseTo(Math.sqrt((h - 2) / 6), 12);
  expect(found.runs).toBe(9);
  // A group for each run explains everything, and says nothing.
  expect(groupCorrelation(Float64Array.of(0, 1, 2), Float64Array.of(1, 2, 3)).rho).toBeNaN();
  expect(groupCorrelation(Float64Array.of(0, 1, 0, 1), Float64Array.of(1, 1, 2, 2)).rho).toBe(0);
});

test('axes hold numbers, large integers, texts and what is missing', () => {
  const lr = paramAxis(param('lr'), rows([{ lr: 0.1 }, { lr: 0.0001 }, {}, { lr: NaN }, { lr: 10n }]));
  expect([...lr.values]).toEqual([0.1, 0.0001, NaN, NaN, 10]);
  expect(lr.axis.isLog).toBe(true);
  const name = paramAxis(param('opt'), rows([{ opt: 'sgd' }, { opt: 'adam' }, {}, { opt: 'sgd' }]));
  expect(name.categories).toEqual(['adam', 'sgd']);
  expect([...name.values]).toEqual([1, 0, NaN, 1]);
  expect(name.axis.toPixel(0)).toBeCloseTo(0.25);
});

test('dependences are sorted by size, and leave out a text for each run', () => {
  const all = rows(
    [0, 1, 2, 3].map(n => ({ y: n, up: [1, 3, 2, 4][n], down: -n, same: 7, text: `${n}`, flag: n > 1 })),
  );
  const axes = ['up', 'down', 'same', 'text', 'flag'].map(name => paramAxis(param(name), all));
  const found = dependences(paramAxis(param('y'), all), axes);
  expect(found.map(({ axis, rho }) => [axis.title, Number(rho.toFixed(2))])).toEqual([
    ['down', -1],
    ['flag', 0.89],
    ['up', 0.8],
  ]);
});

test('the trend is that of scipy, over logarithms on logarithmic axes', () => {
  const all = rows([1, 10, 100, 1000, NaN].map((x, at) => ({ x, y: [2, 3, 5, 6, 9][at] })));
  const [x, y] = [paramAxis(param('x'), all), paramAxis(param('y'), all)];
  const found = dots(x, y, ['a', 'b', 'c', 'd', 'e']);
  expect(found.map(({ run }) => run)).toEqual([0, 1, 2, 3]);
  const line = trend(x, y, found)!;
  // scipy.stats.linregress([0, 1, 2, 3], [2, 3, 5, 6]): slope 1.4, intercept 1.9
  expect(line.r).toBeCloseTo(0.9899494936611665, 12);
  expect([line.rho, line.runs]).toEqual([1, 4]);
  expect(y.axis.toValue(line.from[1])).toBeCloseTo(1.9, 9);
  expect(y.axis.toValue(line.to[1])).toBeCloseTo(6.1, 9);
  expect(trend(x, y, found.slice(0, 2))).toBeUndefined();
});

test('dots of a category are next to each other, and always at the same place', () => {
  const all = rows([{ x: 'a', y: 1 }, { x: 'b', y: 2 }, { x: 'a', y: 3 }, { x: 'a' }]);
  const [x, y] = [paramAxis(param('x'), all), paramAxis(param('y'), all)];
  const found = dots(x, y, ['k', 'l', 'm', 'n']);
  expect(found.map(({ run }) => run).sort()).toEqual([0, 1, 2]);
  for (const dot of found) expect(dot.x < 0.5).toBe(dot.run !== 1);
  expect(new Set(found.map(dot => dot.x)).size).toBe(3);
  expect(dots(x, y, ['k', 'l', 'm', 'n'])).toEqual(found);
  expect(trend(x, y, found)).toBeUndefined();
});

test('brushes are kept in the URL, and hide runs outside of any', () => {
  const brush = { axis: 'param:a=b', low: 0.001, high: 0.1 };
  expect(parseBrush(brushText(brush))).toEqual(brush);
  expect(parseBrush('x')).toBeUndefined();
  const axis = paramAxis(param('a=b'), rows([{ 'a=b': 0.01 }, { 'a=b': 1 }, {}]));
  expect(insideOf([brush], [axis], 3)).toEqual([true, false, false]);
});

test('colors reach from one end to the other', () => {
  expect([0, 0.75, NaN].map(rampColor)).toEqual([
    'color-mix(in oklab, var(--ramp-low) 100%, var(--ramp-middle))',
    'color-mix(in oklab, var(--ramp-high) 50%, var(--ramp-middle))',
    'var(--ramp-middle)',
  ]);
});
