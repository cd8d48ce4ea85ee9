import { expect, test } from 'vitest';

import { decodeMap } from '../api/cbor.ts';
import { encodeCbor } from '../api/cbor_writer.ts';
import {
  EMPTY_PANEL,
  endsMistake,
  isShown,
  moved,
  NEW_PANEL,
  PANEL_KINDS,
  panelCode,
  panelFrom,
  panelState,
  panelTitle,
  patternWords,
  parsePanel,
  resized,
  type Panel,
  type PanelKind,
} from './panels.ts';

const FULL: Panel = {
  ...EMPTY_PANEL,
  title: 'Loss: of "all"',
  query: 'run.name == "a: b"\nor run.active',
  metric: ['loss', 'val, loss'],
  smooth: 0.6,
  logy: true,
  line: 'thin',
  low: -1.5,
  from: 10,
  by: 'param:hparams.lr',
  legend: false,
  width: 6,
  height: 8,
};

test('a column that is named twice is one column', () => {
  const { panel, mistakes } = parsePanel('runs', 'columns: status, param:lr, status');
  expect([panel.columns, mistakes]).toEqual([['status', 'param:lr'], []]);
});

test('a panel is kept, and read back', () => {
  const stored = decodeMap(encodeCbor(panelState(FULL)));
  expect(panelFrom(stored)).toEqual(FULL);
  expect(panelFrom(decodeMap(encodeCbor(panelState(EMPTY_PANEL))))).toEqual(EMPTY_PANEL);
});

test('panels that were kept with one metric are read', () => {
  const old = { kind: 'runs', metric: 'val, loss', query: 'run.active', by: 'param:lr', width: 6 };
  expect(panelFrom(old)).toEqual({
    ...EMPTY_PANEL,
    kind: 'runs',
    metric: ['val, loss'],
    query: 'run.active',
    by: 'param:lr',
    width: 6,
  });
});

test('what is unknown, invalid or missing in a kept panel is that of an empty one', () => {
  expect(panelFrom(null)).toEqual(EMPTY_PANEL);
  expect(panelFrom({ kind: 'hologram', width: '99', metric: 7, logy: 'maybe' })).toEqual({
    ...EMPTY_PANEL,
    metric: ['7'],
    width: 6,
  });
  expect(panelFrom({ width: -3, height: 1000 })).toMatchObject({ width: 1, height: 12 });
});

test('a panel keeps within the grid', () => {
  expect(resized(EMPTY_PANEL, 9, -9)).toMatchObject({ width: 6, height: 2 });
  expect(resized(EMPTY_PANEL, -1, 1)).toMatchObject({ width: 2, height: 5 });
});

test('a panel is moved to another place', () => {
  expect(moved(['a', 'b', 'c'], 0, 2)).toEqual(['b', 'c', 'a']);
  expect(moved(['a', 'b', 'c'], 2, 0)).toEqual(['c', 'a', 'b']);
  expect(moved(['a', 'b', 'c'], 0, -1)).toEqual(['a', 'b', 'c']);
  expect(moved(['a', 'b', 'c'], 7, 0)).toEqual(['a', 'b', 'c']);
});

test('a panel of a report is written as lines, and read back', () => {
  const code = panelCode(FULL).split('\n').slice(1, -1).join('\n');
  const { panel, mistakes } = parsePanel('chart', code);
  expect(mistakes).toEqual([]);
  // A report has no grid.
  expect(panel).toEqual({ ...FULL, width: EMPTY_PANEL.width, height: EMPTY_PANEL.height });
  expect(parsePanel('runs', '').panel).toEqual({ ...EMPTY_PANEL, kind: 'runs' });
  expect(parsePanel('chart', 'metric: loss\nquery:').panel).toEqual(NEW_PANEL);
});

test('every kind is read back from a report', () => {
  expect(panelCode({ ...EMPTY_PANEL, kind: 'text', text: 'As *it* is' })).toBe('As *it* is');
  const kinds = (Object.keys(PANEL_KINDS) as PanelKind[]).filter(kind => kind !== 'text');
  for (const kind of kinds) {
    const code = panelCode({ ...EMPTY_PANEL, kind, title: 'x' }).split('\n')[1] ?? '';
    expect(parsePanel(kind, code), kind).toEqual({
      panel: { ...EMPTY_PANEL, kind, title: 'x' },
      mistakes: [],
    });
  }
});

test('every mistake in a panel is named with its line, and the rest is shown', () => {
  const { panel, mistakes } = parsePanel(
    'chart',
    'metric: loss\nsmoth: 0.6\nsmooth: abc\n\nnonsense\nby: hparams.lr\nlogy: maybe\nx: epochs\nmetric: a\nwidth: 3\nnumber: best',
  );
  expect(panel).toEqual(NEW_PANEL);
  expect(mistakes.map(({ line }) => line)).toEqual([2, 3, 5, 6, 7, 8, 9, 10, 11]);
  const text = mistakes.map(({ message }) => message);
  expect(text[0]).toContain('Did you mean “smooth”?');
  expect(text[1]).toContain('“smooth” cannot be “abc”. It is a number.');
  expect(text[2]).toContain('Write “name: value”');
  expect(text[3]).toContain('“param:hparams.lr” is a param');
  expect(text[4]).toContain('yes or no');
  expect(text[5]).toContain('step, relative, time, epoch, metric');
  expect(text[6]).toContain('twice');
  expect(text[8]).toContain('has no setting “number”');
});

test('lines after a mistake belong to it', () => {
  const { panel, mistakes } = parsePanel(
    'runs',
    'kind: chart\n  x\nquery: run.a\nquery: run.b\n  and run.c\n  or run.d\nruns: 3',
  );
  expect(panel).toEqual({ ...EMPTY_PANEL, kind: 'runs', query: 'run.a', runs: 3 });
  expect(mistakes.map(({ line }) => line)).toEqual([1, 4]);
});

test('metrics are named, or found by a pattern', () => {
  expect(['loss', 'val/loss'].filter(name => isShown(['loss'], name))).toEqual(['loss']);
  expect(['loss', 'val/loss', 'lr'].filter(name => isShown(['/LOSS$/'], name))).toEqual([
    'loss',
    'val/loss',
  ]);
  expect(isShown(['/(/'], 'loss')).toBe(false);
  const { panel, mistakes } = parsePanel('chart', 'query: a\nmetric: /(/\nsmooth: 0.5');
  expect(panel).toEqual({ ...EMPTY_PANEL, query: 'a', smooth: 0.5 });
  const message = '“metric” cannot be “/(/”. The pattern is no regular expression.';
  expect(mistakes).toEqual([{ line: 2, message }]);
  expect(parsePanel('chart', 'metric: /^a{1,2}$/').panel.metric).toEqual(['/^a{1,2}$/']);
});

test('ends of an axis are in order, and each may be missing', () => {
  const check = (ends: Partial<Panel>): string => endsMistake({ ...NEW_PANEL, ...ends });
  for (const ends of [{}, { from: 3 }, { to: 3 }, { from: 1, to: 3, low: -3, high: -1 }])
    expect(check(ends)).toBe('');
  expect(check({ from: 3, to: 1 })).toBe('The first x must be below the last x.');
  expect(check({ low: 3, high: 3 })).toBe('The lowest y must be below the highest y.');
});

test('the words of a pattern are in every name that it finds', () => {
  expect(patternWords(['/weight3$/'])).toBe('weight3');
  expect(patternWords(['/^layer1.weight\\d\\.x/'])).toBe('layer1 weight x');
  for (const pattern of ['/a|b/', '/colou?r/', '/x[12]/', '/lo*p/', '/(a)/', '/a{2}/'])
    expect(patternWords([pattern]), pattern).toBe('');
  expect(patternWords(['loss'])).toBe('');
});

test('a panel without a title is called what it shows', () => {
  expect(panelTitle(FULL)).toBe('Loss: of "all"');
  expect(panelTitle(NEW_PANEL)).toBe('loss');
  expect(panelTitle({ ...EMPTY_PANEL, kind: 'runs' })).toBe('Runs');
  expect(panelTitle({ ...NEW_PANEL, kind: 'importance' })).toBe('What loss depends on');
});
