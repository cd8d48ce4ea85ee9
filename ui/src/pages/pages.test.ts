import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { encodeCbor } from '../api/cbor_writer.ts';
import { OutcomeKind } from '../gen/matyan/common/v1/common_pb.ts';
import {
  RunSchema,
  SeriesInfoSchema,
  type Run,
  type SeriesInfo,
} from '../gen/matyan/runs/v1/run_pb.ts';
import { GroupOrder, MetricValue, SortField } from '../gen/matyan/search/v1/search_pb.ts';
import {
  chartSections,
  closedSections,
  filterGroups,
  patternOf,
  projectCharts,
  runCharts,
} from '../parts/chart_groups.ts';
import { DASHES } from '../plot/palette.ts';
import { bestFirst, compareRows } from './compare/rows.ts';
import {
  columnText,
  columnTitle,
  defaultColumns,
  distinctTitles,
  groupText,
  parseColumn,
  placeColumns,
  usualColumns,
  withWidth,
  type DataColumn,
} from './runs/columns.ts';
import { aggregated, groupsFor, nextSort, sortFor } from './runs/requests.ts';

function info(name: string, context = ''): SeriesInfo {
  return create(SeriesInfoSchema, { name, context });
}

test('columns survive their text', () => {
  const check = (column: DataColumn, title: string): void => {
    expect(parseColumn(columnText(column))).toEqual(column);
    expect(columnTitle(column)).toBe(title);
  };
  check({ kind: 'param', segments: ['hparams', 'lr'] }, 'lr');
  check({ kind: 'param', segments: ['a.b', 'c\\d', 'e'] }, 'e');
  check({ kind: 'metric', name: 'loss', context: '' }, 'loss');
  check(
    { kind: 'metric', name: 'loss', context: '{"subset":"val"}', value: 'min' },
    'loss val min',
  );
  check({ kind: 'metric', name: 'loss', context: '', value: 'curve' }, 'loss curve');
  check({ kind: 'metric', name: 'a {odd} name', context: '{"subset":"val"}' }, 'a {odd} name val');
  check(
    { kind: 'metric', name: 'loss', context: '{"fold":1,"subset":"val"}' },
    'loss fold=1 subset=val',
  );
  expect(parseColumn('other')).toBeUndefined();
});

test('orders', () => {
  const newest = { by: { case: 'field', value: SortField.CREATED }, descending: true };
  // Without an order, the server returns runs in the order of their arrival instead of the times in
  // the table.
  expect(sortFor(['-created'])).toEqual([newest]);
  const loss = { case: 'metric', value: { name: 'loss', context: '{"a":1}' } };
  expect(sortFor(['name', '-metric:loss {"a":1}', 'min:loss {"a":1}'])).toEqual([
    { by: { case: 'field', value: SortField.NAME }, descending: false },
    { by: loss, metricValue: MetricValue.LAST, descending: true },
    { by: loss, metricValue: MetricValue.MIN, descending: false },
  ]);
  expect(sortFor(['curve:loss {"a":1}'])).toEqual([
    { by: loss, metricValue: MetricValue.LAST, descending: false },
  ]);
  expect(sortFor(['nothing'])).toEqual([]);
  const clicks = (from: string[], ...texts: [text: string, isAdded: boolean][]): string[] =>
    texts.reduce((sort, [text, isAdded]) => nextSort(sort, text, isAdded), from);
  expect(clicks(['-created'], ['name', true])).toEqual(['name']);
  expect(clicks(['-created'], ['status', false])).toEqual(['status']);
  expect(clicks(['name'], ['name', false])).toEqual(['-name']);
  expect(clicks(['name'], ['param:lr', true])).toEqual(['name', '-param:lr']);
  expect(clicks(['name'], ['param:lr', true], ['param:lr', true])).toEqual(['name', 'param:lr']);
  expect(clicks(['name', 'param:lr'], ['param:lr', true])).toEqual(['name']);
  expect(clicks(['name', 'param:lr'], ['name', false])).toEqual(['name']);
});

test('groups are in the order of the table, and aggregate the shown metrics', () => {
  const columns = ['experiment', 'metric:a', 'max:b', 'param:lr'].flatMap(
    text => parseColumn(text) ?? [],
  );
  const by = ['experiment', 'param:lr'];
  expect(aggregated(columns, '-created')).toEqual(['metric:a', 'max:b']);
  expect(groupsFor(by, ['metric:a', 'max:b'], '-created')).toEqual({
    by: [
      { by: { case: 'field', value: SortField.EXPERIMENT } },
      { by: { case: 'param', value: { segments: ['lr'] } } },
    ],
    aggregates: [
      { of: { case: 'metric', value: { name: 'a', context: '' } }, metricValue: MetricValue.LAST },
      { of: { case: 'metric', value: { name: 'b', context: '' } }, metricValue: MetricValue.MAX },
    ],
    order: GroupOrder.VALUES,
    descending: false,
  });
  const sorted = aggregated(columns, '-max:b');
  expect(sorted).toEqual(['max:b', 'metric:a']);
  expect(groupsFor(by, sorted, '-max:b')).toMatchObject({
    order: GroupOrder.MEAN,
    descending: true,
  });
  expect(groupsFor(by, sorted, '-experiment')).toMatchObject({
    order: GroupOrder.VALUES,
    descending: true,
  });
});

test('groups by status have the words of the server, so they have the colors of its groups', () => {
  const titleOf = (run: Run): string => groupText(run, { kind: 'prop', name: 'status' });
  expect(titleOf(create(RunSchema, { props: { active: true } }))).toBe('active');
  const outcome = { kind: OutcomeKind.FAILED };
  expect(titleOf(create(RunSchema, { props: { outcome } }))).toBe('failed');
  expect(titleOf(create(RunSchema, { props: {} }))).toBe('');
});

test('only runs with equal tags are a group of tags', () => {
  const titleOf = (...names: string[]): string => {
    const tags = names.map(name => ({ id: name, name }));
    return groupText(create(RunSchema, { props: { tags } }), { kind: 'prop', name: 'tags' });
  };
  expect(titleOf('a b')).toBe('a b');
  expect(titleOf('a', 'b')).toBe('a, b');
  // The order in which a run got its tags makes no difference.
  expect(titleOf('b', 'a')).toBe('a, b');
  expect(titleOf('a, b')).toBe('"a, b"');
  expect(titleOf('a', ' b', '"c"')).toBe('" b", "\\"c\\"", a');
  expect([titleOf(), titleOf('')]).toEqual(['', '""']);
});

test('default columns are those that most runs have', () => {
  const usual = {
    params: { seed: 1, hparams: { lr: 1 } },
    series: [info('loss', '{"subset":"val"}'), info('__system__cpu')],
  };
  const wide = { params: {}, series: Array.from({ length: 100 }, (_, at) => info(`weight${at}`)) };
  const texts = defaultColumns([wide, usual, usual]).map(columnText);
  expect(texts.slice(0, 2)).toEqual(['metric:loss {"subset":"val"}', 'metric:weight0']);
  expect(texts.slice(-2)).toEqual(['param:hparams.lr', 'param:seed']);
  expect(usualColumns([usual]).map(columnText)).toEqual([
    ...['status', 'experiment', 'created', 'metric:loss {"subset":"val"}'],
    ...['param:hparams.lr', 'param:seed', 'duration', 'tags'],
  ]);
});

test('metrics are grouped by name, results first, in natural order, the machine last', () => {
  const all = ['__system__cpu', 'layer10', 'layer2', 'loss'].map(name => info(name));
  const groups = runCharts(create(RunSchema, { series: [...all, info('loss', '{"a":1}')] }));
  expect(groups.map(({ name, lines }) => [name, lines.map(({ label }) => label)])).toEqual([
    ['loss', ['loss', '1']],
    ['layer2', ['layer2']],
    ['layer10', ['layer10']],
    ['__system__cpu', ['__system__cpu']],
  ]);
  const found = (text: string): string[] => filterGroups(groups, text).map(({ name }) => name);
  expect(found('LAYER')).toEqual(['layer2', 'layer10']);
  expect(found('/r\\d$/')).toEqual(['layer2']);
  expect(found('/(/')).toEqual([]);
});

test('runs keep their color over all charts, and contexts their dashes', () => {
  const series = [info('loss', '{"s":"train"}'), info('loss', '{"s":"val"}'), info('lr')];
  const runs = ['a', 'b'].map(runId =>
    create(RunSchema, { runId, series, props: { name: `run ${runId}` } }),
  );
  const [loss, lr] = projectCharts(runs);
  expect(loss?.lines.map(({ label }) => label)).toEqual([
    'run a train',
    'run a val',
    'run b train',
    'run b val',
  ]);
  expect(loss?.lines[0]?.color).toBe(lr?.lines[0]?.color);
  expect(loss?.lines.map(({ dash }) => dash.length > 0)).toEqual([false, true, false, true]);
});

test('contexts keep their dashes when a run comes that has them in another order', () => {
  const contexts = ['{"s":"train"}', '{"s":"val"}', ''];
  const old = create(RunSchema, { runId: 'a', series: contexts.map(one => info('loss', one)) });
  const dashesOf = (runs: Run[]): Map<string, readonly number[]> => {
    const [loss] = projectCharts(runs);
    const own = loss?.lines.filter(({ runId }) => runId === 'a') ?? [];
    return new Map(own.map(({ info, dash }) => [info.context, dash]));
  };
  const before = dashesOf([old]);
  expect(before.get('')).toBe(DASHES[0]);
  const series = contexts.toReversed().map(one => info('loss', one));
  expect(dashesOf([create(RunSchema, { runId: 'b', series }), old])).toEqual(before);
});

test('a column decides the color of runs, another one their dashes, and a third one their chart', () => {
  const series = [info('loss', '{"s":"train"}'), info('loss', '{"s":"val"}')];
  const runs = ['a1', 'a2', 'b10', 'b9'].map(runId => create(RunSchema, { runId, series }));
  const groups = projectCharts(runs, {
    groupOf: ({ runId }) => runId.slice(0, 1),
    strokeOf: ({ runId }) => runId.slice(1),
    chartOf: ({ runId }) => (runId === 'b9' ? '' : runId.slice(1)),
  });
  expect(groups.map(({ name, lines }) => [name, lines[0]?.label])).toEqual([
    ['loss · 1', 'a1 train'],
    ['loss · 2', 'a2 train'],
    ['loss · 10', 'b10 train'],
    ['loss · none', 'b9 train'],
  ]);
  const lines = groups.map(({ lines }) => lines[1]);
  expect(new Set(lines.map(line => line?.color)).size).toBe(2);
  // The numbers of the shapes in the legend, in order.
  expect(lines.map(line => line?.dash)).toEqual([DASHES[0], DASHES[1], DASHES[3], DASHES[2]]);
});

test('a comparison has a row for each value, and knows which are equal', () => {
  // {"lr": 1, "m": {"a": "x"}}, and {"lr": 1, "m": {"a": 1}, "e": {}}.
  const hex = ['a2626c7201616da161616178', 'a3626c7201616da16161016165a0'];
  const runs = hex.map((params, at) =>
    create(RunSchema, {
      params: Uint8Array.from(params.match(/../g) ?? [], byte => parseInt(byte, 16)),
      series: [
        { name: 'loss', context: '{"s":"val"}', last: NaN },
        ...(at === 0 ? [{ name: 'lr', last: 2 }] : []),
      ],
    }),
  );
  expect(
    compareRows(runs).map(({ title, values, isEqual }) => [title, ...values, isEqual]),
  ).toEqual([
    ['loss val', NaN, NaN, true],
    ['lr', 1, 1, true],
    ['m.a', 'x', 1, false],
    ['e', undefined, {}, false],
    ['lr', 2, undefined, false],
  ]);
});

test('rows of a comparison with equal titles are not mixed up', () => {
  const contexts = ['{"subset":"val"}', '{"split":"val"}', '{"subset":"train"}', ''];
  const run = create(RunSchema, {
    params: encodeCbor({ 'a.b': 1, a: { b: 2 } }),
    series: contexts.map((context, last) => ({ name: 'loss', context, last })),
  });
  expect(compareRows([run, run]).map(({ title, values }) => [title, values[0]])).toEqual([
    ['loss {"subset":"val"}', 0],
    ['loss {"split":"val"}', 1],
    ['loss train', 2],
    ['loss', 3],
    ['a.b', 1],
    ['a.b', 2],
  ]);
});

test('the best of different values is known if the name of the metric says it', () => {
  const names = ['loss', 'accuracy', 'lr', '__system__loss'];
  const runs = [1, 3, NaN].map(last =>
    create(RunSchema, {
      series: names.map(name => ({ name, last })),
      params: new Uint8Array([0xa0]),
    }),
  );
  expect(compareRows(runs).map(({ title, best }) => [title, best])).toEqual([
    ['loss', 1],
    ['accuracy', 3],
    ['lr', undefined],
    ['__system__loss', 1],
  ]);
});

test('a row of a comparison orders its runs: the best value first, and none last', () => {
  const order = (values: (number | bigint | string | undefined)[], isLower?: boolean) =>
    bestFirst({ id: '', title: '', values, isEqual: false, isLower }).map(at => values[at]);
  expect(order([2, undefined, NaN, 1n, Infinity], true)).toEqual([1n, 2, Infinity, undefined, NaN]);
  expect(order([2, undefined, 3, 1n])).toEqual([3, 2, 1n, undefined]);
  expect(order(['sgd', 5, 'adam', undefined])).toEqual([5, 'adam', 'sgd', undefined]);
});

test('charts are in sections by the first part of their names', () => {
  const names = ['grad/layer0', 'loss', 'val/loss', 'grad/norm', '__system__cpu', 'lr'];
  const groups = runCharts(create(RunSchema, { series: names.map(name => info(name)) }));
  const sections = chartSections(groups).map(({ title, groups }) => [
    title,
    groups.map(({ name }) => name),
  ]);
  expect(sections).toEqual([
    ['', ['loss', 'lr']],
    ['val', ['val/loss']],
    ['grad', ['grad/layer0', 'grad/norm']],
    ['System', ['__system__cpu']],
  ]);
});

test('sections follow the last part of names, too, and many are closed at first', () => {
  const names = ['grad/l0/weight', 'grad/l0/bias', 'grad/l1/weight', 'loss', '__system__cpu'];
  const groups = runCharts(create(RunSchema, { series: names.map(name => info(name)) }));
  const titles = (by: 'first' | 'last' | 'none'): [string, number][] =>
    chartSections(groups, by).map(({ title, groups }) => [title, groups.length]);
  expect(Object.fromEntries(titles('last'))).toEqual({ '': 1, weight: 2, bias: 1, System: 1 });
  expect(titles('none')).toEqual([['', 5]]);
  const few = chartSections(groups);
  expect([...closedSections(few, 'auto', ['grad'])]).toEqual(['grad']);
  expect([...closedSections(few, 'closed', ['grad'])]).toEqual(['System']);
  const many = Array.from({ length: 30 }, (_, at) => ({
    title: `s${at}`,
    groups: groups.slice(0, at === 0 ? 5 : 4),
  }));
  const closed = closedSections(many, 'auto', ['s3']);
  // The first charts are open, and so is the section that was clicked.
  expect([closed.size, closed.has('s1'), closed.has('s2'), closed.has('s3')]).toEqual([
    ...[27, false, true, false],
  ]);
  expect(closedSections(many, 'open', []).size).toBe(0);
});

test('the pattern of a search finds what the search finds', () => {
  const names = ['grad/l0.weight', 'grad/l0xweight', 'Grad/l0.weight2', 'loss'];
  const groups = runCharts(create(RunSchema, { series: names.map(name => info(name)) }));
  for (const text of ['l0.weight', '/^grad/', 'loss', ' LOSS '])
    expect(
      filterGroups(groups, patternOf(text)).map(({ name }) => name),
      text,
    ).toEqual(filterGroups(groups, text).map(({ name }) => name));
});

test('the columns that are chosen first are results, and params that differ', () => {
  const series = ['grad/layer0', 'lr', 'loss'].map(name => info(name));
  const runs = [1, 2].map(lr => ({
    params: { hparams: { seed: lr, deep: { a: lr }, epochs: 9, lr } },
    series,
  }));
  expect(defaultColumns(runs).map(columnText)).toEqual([
    'metric:loss',
    'metric:lr',
    'metric:grad/layer0',
    'param:hparams.lr',
    'param:hparams.deep.a',
    'param:hparams.seed',
    'param:hparams.epochs',
  ]);
});

test('the columns that are chosen first are no results that a client keeps in params', () => {
  const runs = [1, 2].map(lr => ({
    params: { hparams: { lr, epochs: 9 }, summary: { loss: lr }, optuna: { value: lr } },
    series: [info('loss')],
  }));
  expect(defaultColumns(runs).map(columnText)).toEqual([
    'metric:loss',
    'param:hparams.lr',
    'param:hparams.epochs',
  ]);
});

test('params with the same last segment have headings that differ', () => {
  const columns = ['param:data.name', 'param:model.name', 'param:lr', 'metric:name'].map(
    text => parseColumn(text) as DataColumn,
  );
  expect([...distinctTitles(columns).values()]).toEqual(['data.name', 'model.name', 'lr', 'name']);
});

test('losses are sorted from the lowest, other numbers from the highest', () => {
  expect(['metric:loss', 'metric:accuracy', 'name'].map(text => nextSort([], text, false))).toEqual(
    [['metric:loss'], ['-metric:accuracy'], ['name']],
  );
});

test('pinned columns come first, and widths survive their text', () => {
  const columns = ['created', 'param:a=1', 'metric:loss'].map(
    text => parseColumn(text) as DataColumn,
  );
  const widths = withWidth(withWidth(['created=200'], 'param:a=1', 90), 'created', 3);
  const placed = placeColumns(columns, widths, ['metric:loss'], 44);
  expect(placed.map(({ text, width, left }) => [text, width, left])).toEqual([
    ['name', 226, '44px'],
    ['metric:loss', 108, '270px'],
    ['created', 48, undefined],
    ['param:a=1', 90, undefined],
  ]);
});
