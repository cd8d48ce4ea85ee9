import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { RunSchema } from '../../gen/matyan/runs/v1/run_pb.ts';
import type { RunRow } from '../runs/search.ts';
import {
  axisTicks,
  endPlace,
  indexOfRun,
  paramAxis,
  placeOf,
  pressKey,
  rampColor,
  rankColors,
} from './axes.ts';
import { brushText, insideOf, limitsOf, logsOf, logTexts, parseBrush } from './brushes.ts';
import { candidatesOf, influencesOf } from './influences.ts';
import { dots, isExplained, partOf, trend } from './scatter.ts';
import { groupCorrelation, rankCorrelation, ranks } from './statistics.ts';

const rows = (values: readonly object[]): RunRow[] =>
  values.map(params => ({ run: { series: [] }, params }) as unknown as RunRow);
const param = (name: string) => ({ kind: 'param' as const, segments: [name] });

test('colors reach from the lowest to the highest value, unless all are equal', () => {
  const check = (values: number[], places: number[]): void =>
    expect(rankColors(Float64Array.from(values))).toEqual(places.map(rampColor));
  check([5, 1, NaN, 1e9], [0.5, 0, NaN, 1]);
  check([1, 1, 2], [0, 0, 1]);
  check([1, 2, 2], [0, 1, 1]);
  check([3, 3, NaN], [NaN, NaN, NaN]);
  check([3], [NaN]);
});

test('equal values share a rank', () => {
  expect([...ranks(Float64Array.of(10, 20, NaN, 20, 5))]).toEqual([1, 2.5, NaN, 2.5, 0]);
});

test('rank correlation is that of scipy', () => {
  // scipy.stats.spearmanr([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]).statistic
  const found = rankCorrelation(
    Float64Array.of(1, 2, 3, 4, 5, NaN),
    Float64Array.of(5, 6, 7, 8, 7, 1),
  );
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
  const lr = paramAxis(
    param('lr'),
    rows([{ lr: 0.1 }, { lr: 0.0001 }, {}, { lr: NaN }, { lr: 10n }]),
  );
  expect([...lr.values]).toEqual([0.1, 0.0001, NaN, NaN, 10]);
  expect(lr.axis.isLog).toBe(true);
  const name = paramAxis(param('opt'), rows([{ opt: 'sgd' }, { opt: 'adam' }, {}, { opt: 'sgd' }]));
  expect(name.categories).toEqual(['adam', 'sgd']);
  expect([...name.values]).toEqual([1, 0, NaN, 1]);
  expect(name.axis.toPixel(0)).toBeCloseTo(0.25);
});

test('an axis of a few numbers names them, and a range has round ones', () => {
  const labels = (values: number[]): string[] => {
    const axis = paramAxis(param('n'), rows(values.map(n => ({ n }))));
    return axisTicks(axis, 8, 100).map(({ label }) => label);
  };
  expect(labels([64, 8, 16, 8])).toEqual(['8', '16', '64']);
  // The first two would be on top of each other.
  expect(labels([1, 2, 40])).not.toContain('2');
  expect(labels([1, 2, 3, 4, 5, 6, 7.5])).not.toContain('7.5');
});

test('without a forest, dependences are sorted by the size of their correlation', () => {
  const all = rows(
    [0, 1, 2, 3].map(n => ({
      y: n,
      up: [1, 3, 2, 4][n],
      down: -n,
      same: 7,
      text: `${n}`,
      flag: n > 1,
    })),
  );
  const axes = ['up', 'down', 'same', 'text', 'flag'].map(name => paramAxis(param(name), all));
  const y = paramAxis(param('y'), all);
  const inside = all.map(() => true);
  const { kept, leftOut } = candidatesOf(axes, y, inside);
  expect(leftOut).toEqual(['text']);
  const found = influencesOf(kept, y, inside, undefined);
  expect(found.map(({ axis, rho }) => [axis.title, Number(rho.toFixed(2))])).toEqual([
    ['down', -1],
    ['flag', 0.89],
    ['up', 0.8],
  ]);
});

test('results that a client keeps in params are no dependences', () => {
  const all = rows([0, 1, 2].map(n => ({ y: n, hparams: { lr: n }, summary: { acc: n } })));
  const axes = [
    ['hparams', 'lr'],
    ['summary', 'acc'],
  ].map(segments => paramAxis({ kind: 'param', segments }, all));
  const { kept, leftOut } = candidatesOf(axes, paramAxis(param('y'), all), [true, true, true]);
  expect([kept.map(({ title }) => title), leftOut]).toEqual([['lr'], []]);
});

test('the trend is that of scipy, over logarithms on logarithmic axes', () => {
  const all = rows([1, 10, 100, 1000, NaN].map((x, at) => ({ x, y: [2, 3, 5, 6, 9][at] })));
  const x = paramAxis(param('x'), all);
  const y = paramAxis(param('y'), all);
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

test('a straight line that explains nothing of a valley is no trend', () => {
  const lineOf = (values: number[]) => {
    const all = rows(values.map((y, x) => ({ x, y })));
    const [x, y] = [paramAxis(param('x'), all), paramAxis(param('y'), all)] as const;
    return trend(x, y, dots(x, y, values.map(String)))!;
  };
  expect(isExplained(lineOf([9, 4, 1, 0, 1, 4, 9]))).toBe(false);
  expect(isExplained(lineOf([0, 2, 1, 3, 2, 4, 3]))).toBe(true);
});

test('dots of a category are next to each other, and always at the same place', () => {
  const all = rows([{ x: 'a', y: 1 }, { x: 'b', y: 2 }, { x: 'a', y: 3 }, { x: 'a' }]);
  const x = paramAxis(param('x'), all);
  const y = paramAxis(param('y'), all);
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
  for (const none of ['x', 'x=NaN..1', 'x=1..NaN', 'x=..', '=1..2'])
    expect(parseBrush(none)).toBeUndefined();
  const open = { axis: 'x', low: -Infinity, high: Infinity };
  expect(parseBrush(brushText(open))).toEqual(open);
  const axis = paramAxis(param('a=b'), rows([{ 'a=b': 0.01 }, { 'a=b': 1 }, {}]));
  expect(insideOf([brush], [axis], 3)).toEqual([true, false, false]);
});

test('the run that the keys have reached stays when another run arrives', () => {
  const all = ['b', 'a'].map(runId => ({ run: create(RunSchema, { runId }), params: {} }));
  expect(indexOfRun(all, 'a')).toBe(1);
  const newer = [{ run: create(RunSchema, { runId: 'c' }), params: {} }, ...all];
  expect(indexOfRun(newer, 'a')).toBe(2);
  expect([indexOfRun(newer, 'd'), indexOfRun(newer, undefined)]).toEqual([undefined, undefined]);
});

test('keys move from run to run, and the keys of the browser stay its own', () => {
  const press = (key: string, hovered: number | undefined, altKey = false): unknown[] => {
    const done: unknown[] = [];
    const event = { key, altKey, preventDefault: () => done.push('prevented') };
    const onhover = (run: number | undefined): void => void done.push(run);
    pressKey(event as never, [4, 7, 9], { hovered, onhover, onopen: () => done.push('open') });
    return done;
  };
  expect(press('ArrowRight', undefined)).toEqual(['prevented', 4]);
  expect(press('ArrowLeft', 9)).toEqual(['prevented', 7]);
  expect(press('PageDown', 7)).toEqual(['prevented', 9]);
  expect(press('Enter', 7)).toEqual(['open']);
  expect(press('ArrowLeft', 9, true)).toEqual([]);
});

test('colors reach from one end to the other', () => {
  expect([0, 0.75, NaN].map(rampColor)).toEqual([
    'color-mix(in oklab, var(--ramp-low) 100%, var(--ramp-middle))',
    'color-mix(in oklab, var(--ramp-high) 50%, var(--ramp-middle))',
    'var(--ramp-middle)',
  ]);
});

test('outliers of a metric are at the ends of its axis, unless the whole range is wanted', () => {
  const usual = Array.from({ length: 20 }, (_, at) => 1.05 + at / 80);
  const losses = [...usual, 9, 9.1, 9.2];
  const all = losses.map((last, at) => ({
    run: create(RunSchema, { runId: `${at}`, series: [{ name: 'loss', context: '', last }] }),
    params: {},
  }));
  const column = { kind: 'metric', name: 'loss', context: '' } as const;
  const robust = paramAxis(column, all, { isWhole: false, isLog: false });
  expect([...robust.outliers]).toEqual([...usual.map(() => 0), 1, 1, 1]);
  expect(robust.axis.extent.high).toBeLessThan(1.4);
  expect(placeOf(robust, 9)).toBe(1);
  expect(placeOf(robust, 1.28) - placeOf(robust, 1.05)).toBeGreaterThan(0.5);
  const whole = paramAxis(column, all, { isWhole: true, isLog: true });
  expect([whole.outliers.some(Boolean), whole.axis.isLog]).toEqual([false, true]);
  // Open ends of a range are the ends of a logarithmic axis.
  const ends = [-Infinity, -1, 0, Infinity].map(value => endPlace(whole, value));
  expect(ends).toEqual([0, 0, 0, 1]);
  expect(placeOf(whole, 9)).toBeLessThan(1);
});

test('dots off the scale are marked, and are not part of the trend', () => {
  const all = Array.from({ length: 23 }, (_, at) => ({
    run: create(RunSchema, {
      runId: `${at}`,
      series: [{ name: 'loss', context: '', last: at < 20 ? 1 + at / 80 : 9 }],
    }),
    params: { lr: at },
  }));
  const loss = { kind: 'metric', name: 'loss', context: '' } as const;
  const x = paramAxis(param('lr'), all);
  const y = paramAxis(loss, all, { isWhole: false, isLog: false });
  const found = dots(
    x,
    y,
    all.map(({ run }) => run.runId),
  );
  expect(found.filter(dot => dot.isClamped).map(({ run }) => run)).toEqual([20, 21, 22]);
  const line = trend(x, y, found)!;
  expect(line.r).toBeCloseTo(1, 12);
  expect([line.rho, line.runs]).toEqual([1, 20]);
  expect([x.canBeLog, y.canBeLog]).toEqual([false, true]);
});

test('a part of an axis has ends, unless the axis is of texts or the part has no size', () => {
  const all = rows([1, 2, 3].map(lr => ({ lr, name: `run ${lr}` })));
  const scale = { isWhole: true, isLog: false, limits: limitsOf(['param:lr=2..4']) };
  const lr = paramAxis(param('lr'), all, scale);
  expect(partOf(lr, 0.75, 0.25)).toEqual({ 'param:lr': { low: 2.5, high: 3.5 } });
  expect(partOf(lr, 1, 1)).toEqual({});
  expect(partOf(paramAxis(param('name'), all, scale), 0, 1)).toEqual({});
});

test('params are candidates by the values of the runs that count', () => {
  const all = rows(
    Array.from({ length: 40 }, (_, at) => ({
      y: at,
      text: at < 20 ? `only ${at}` : at % 2 ? 'a' : 'b',
      ...(at % 2 && { flag: true }),
    })),
  );
  const [y, text, flag] = ['y', 'text', 'flag'].map(name => paramAxis(param(name), all));
  const candidates = (inside: boolean[]): (readonly string[])[] => {
    const { kept, leftOut } = candidatesOf([text!, flag!], y, inside);
    return [kept.map(({ title }) => title), leftOut];
  };
  // A value that some runs lack is a constant, too.
  expect(candidates(all.map(() => true))).toEqual([[], ['text']]);
  expect(candidates(all.map((_, at) => at >= 20))).toEqual([['text'], []]);
});

test('an axis ends where the reader says, and is logarithmic on request', () => {
  const all = rows([1, 2, 5, 100].map(lr => ({ lr })));
  const texts = limitsOf(['param:lr=2..10', 'param:x=5..5', 'param:y=1..Infinity']);
  expect([...texts.keys()]).toEqual(['param:lr']);
  const logs = logsOf(['param:lr=linear', 'param:a=b=log', 'param:c=other']);
  expect([...logs]).toEqual([
    ['param:lr', false],
    ['param:a=b', true],
  ]);
  expect(logsOf(logTexts(logs))).toEqual(logs);
  const scale = { isWhole: true, isLog: false, limits: texts, logs };
  const lr = paramAxis(param('lr'), all, scale);
  expect([lr.axis.extent.low, lr.axis.extent.high]).toEqual([2, 10]);
  expect([...lr.outliers]).toEqual([-1, 0, 0, 1]);
  expect([lr.axis.isLog, lr.isLimited]).toEqual([false, true]);
  expect([1, 100].map(value => placeOf(lr, value))).toEqual([0, 1]);
  // Without limits, values that spread that far are logarithmic by themselves.
  expect(paramAxis(param('lr'), all).axis.isLog).toBe(true);
  // No logarithm has a place for zero.
  const limits = limitsOf(['param:lr=0..10']);
  const log = paramAxis(param('lr'), all, {
    ...scale,
    limits,
    logs: new Map([['param:lr', true]]),
  });
  expect(log.axis.isLog).toBe(false);
});
