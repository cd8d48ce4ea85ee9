import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { RunSchema, type Run } from '../../gen/matyan/runs/v1/run_pb.ts';
import { paramAxis, type ParamAxis } from './axes.ts';
import { forestImportances, textBinsOf } from './forest.ts';
import { candidatesOf, influencesOf } from './influences.ts';

/** Numbers that look random, and are the same in every run of the test. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** A sweep that its learning rate decides, with a best value in the middle. */
function sweep(count: number) {
  const random = dice(7);
  const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
  return Array.from({ length: count }, (_, at) => {
    const lr = 10 ** (-2 - 4 * random());
    const dataset = pick(['alpaca', 'oasst', 'dolly']);
    const loss = (Math.log10(lr) + 3.8) ** 2 + (dataset === 'dolly' ? 0.8 : 0);
    return {
      lr,
      dataset,
      weight_decay: pick([0, 0.01, 0.1]),
      warmup: random(),
      batch_size: pick([8, 16, 32]),
      seed: Math.floor(1e6 * random()),
      job_id: 840_000 + at,
      output: `/runs/${at}`,
      constant: 7,
      // Three of the runs diverge.
      loss: at % 15 === 3 ? 9 : loss + 0.3 * (random() - 0.5),
    };
  });
}

const NAMES = Object.keys(sweep(1)[0] ?? {}).filter(name => name !== 'loss');

function axesOf(rows: readonly object[]): { params: ParamAxis[]; metric: ParamAxis } {
  const own = rows.map(params => ({
    run: create(RunSchema, { series: [{ name: 'loss', last: (params as { loss: number }).loss }] }),
    params: { ...params } as never,
  })) as { run: Run; params: never }[];
  return {
    params: NAMES.map(name => paramAxis({ kind: 'param', segments: [name] }, own)),
    metric: paramAxis({ kind: 'metric', name: 'loss', context: '' }, own),
  };
}

function influences(rows: readonly object[], inside = rows.map(() => true)) {
  const { params, metric } = axesOf(rows);
  const candidates = candidatesOf(params, metric, inside);
  const target = metric.values.map((value, at) => (inside[at] ? value : NaN));
  const columns = candidates.kept.map(({ values, categories }) => ({
    values,
    isOrdered: categories.length < 3,
  }));
  const { shares, explained } = forestImportances(columns, target);
  const grown = {
    shares: new Map(candidates.kept.map(({ text }, at) => [text, shares[at] ?? 0])),
    explained,
  };
  return { ...candidates, explained, found: influencesOf(candidates.kept, metric, inside, grown) };
}

test('a learning rate with a best value in the middle comes first, and the data set next', () => {
  const { found, explained } = influences(sweep(45));
  expect(found[0]?.axis.title).toBe('lr');
  const more = influences(sweep(300)).found;
  expect(more.map(({ axis }) => axis.title).slice(0, 2)).toEqual(['lr', 'dataset']);
  expect(found[0]?.share).toBeGreaterThan(0.6);
  expect(Math.abs(found[0]?.rho ?? 1)).toBeLessThan(0.5);
  expect(explained).toBeGreaterThan(0.3);
});

test('directions are a valley near its lowest value, and the best of some texts', () => {
  const { found } = influences(sweep(120));
  const direction = (title: string) => found.find(({ axis }) => axis.title === title)?.direction;
  const valley = /^lowest near ([\d.e−]+)$/.exec(direction('lr') ?? '')?.[1];
  const lowest = Math.log10(Number(valley?.replace('−', '-')));
  expect(Math.abs(lowest + 3.8)).toBeLessThan(0.5);
  expect(direction('dataset')).toMatch(/^lowest for (alpaca|oasst)$/);
  expect(direction('warmup')).toBe('');
});

test('ids, seeds, texts of single runs and constants are left out', () => {
  const { kept, leftOut } = influences(sweep(45));
  expect(kept.map(({ title }) => title).sort()).toEqual(
    ['batch_size', 'dataset', 'lr', 'warmup', 'weight_decay'].sort(),
  );
  expect(leftOut).toEqual(['seed', 'job_id', 'output']);
});

test('only runs inside of the ranges count', () => {
  const rows = sweep(200);
  // With the learning rate fixed near its best value, the data set decides.
  const inside = rows.map(({ lr }) => Math.abs(Math.log10(lr) + 3.8) < 0.3);
  const { found } = influences(rows, inside);
  expect(found[0]?.axis.title).toBe('dataset');
  expect(found[0]?.runs).toBeLessThan(60);
});

test('the same runs give the same forest, and noise explains nothing', () => {
  const random = dice(3);
  const values = Float64Array.from({ length: 60 }, random);
  const columns = [0, 1, 2].map(() => ({
    values: Float64Array.from({ length: 60 }, random),
    isOrdered: true,
  }));
  const first = forestImportances(columns, values);
  expect(forestImportances(columns, values)).toEqual(first);
  expect(first.explained).toBeLessThan(0.1);
  // Two columns that matter only together, which no correlation finds.
  const sides = columns.map(column => column.values.map(value => (value > 0.5 ? 1 : 0)));
  const both = values.map((_, at) => ((sides[0]?.[at] ?? 0) === (sides[1]?.[at] ?? 0) ? 1 : 0));
  const { shares } = forestImportances(columns, both);
  expect((shares[0] ?? 0) + (shares[1] ?? 0)).toBeGreaterThan(0.8);
});

test('the most common texts have bins of their own, and the others share one', () => {
  const rare = Array.from({ length: 40 }, (_, text) => text);
  // Between the rare texts in the order of all.
  const common = Array.from({ length: 30 }, (_, at) => Array<number>(2 + at).fill(at + 5.5)).flat();
  const values = Float64Array.of(NaN, ...rare, ...common);
  const bins = textBinsOf(values);
  expect(bins[0]).toBe(0);
  const binsOf = (texts: number[]): Set<number> =>
    new Set(texts.map(text => bins[values.indexOf(text)] as number));
  expect(binsOf([...new Set(common)]).size).toBe(30);
  expect(binsOf(rare).size).toBe(1);
  expect(binsOf([...rare, ...new Set(common)]).size).toBe(31);
  expect(textBinsOf(Float64Array.of(3, 3, NaN, 1))).toEqual(Uint8Array.of(1, 1, 0, 2));
});

test('too few runs, values that are missing, and no columns say nothing', () => {
  const few = Float64Array.of(1, 2, 3);
  const none = { shares: [0], explained: 0 };
  expect(forestImportances([{ values: few, isOrdered: true }], few)).toEqual(none);
  expect(forestImportances([], new Float64Array(50))).toEqual({ shares: [], explained: 0 });
  // Each value belongs to one run, so runs that a tree has not seen have other values.
  const gaps = Float64Array.from({ length: 50 }, (_, at) => (at % 2 ? NaN : at));
  expect(forestImportances([{ values: gaps, isOrdered: true }], gaps).shares).toEqual([1]);
  // Infinity is the largest value.
  const most = Float64Array.from({ length: 50 }, (_, at) => (at % 2 ? Infinity : -Infinity));
  const sides = most.map(value => Math.sign(value));
  expect(forestImportances([{ values: most, isOrdered: true }], sides).explained).toBeGreaterThan(
    0.9,
  );
});
