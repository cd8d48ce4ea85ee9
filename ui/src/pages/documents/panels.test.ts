import { expect, test } from 'vitest';

import { moved, NEW_PANEL, panelFrom, parsePanel } from './panels.ts';

test('panels are read back; what is unknown or missing is that of a new one', () => {
  const panel = {
    kind: 'runs' as const,
    metric: 'loss',
    query: 'run.active',
    by: 'param:lr',
    width: 6,
  };
  expect(panelFrom({ ...panel })).toEqual(panel);
  expect(panelFrom(null)).toEqual({ ...NEW_PANEL, metric: '' });
  expect(panelFrom({ kind: 'video', width: 99, metric: 7 })).toEqual({
    ...NEW_PANEL,
    metric: '',
    width: 6,
  });
  expect(panelFrom({ width: -3 }).width).toBe(1);
});

test('a panel is moved to another place', () => {
  expect(moved(['a', 'b', 'c'], 0, 2)).toEqual(['b', 'c', 'a']);
  expect(moved(['a', 'b', 'c'], 2, 0)).toEqual(['c', 'a', 'b']);
  expect(moved(['a', 'b', 'c'], 0, -1)).toEqual(['a', 'b', 'c']);
  expect(moved(['a', 'b', 'c'], 7, 0)).toEqual(['a', 'b', 'c']);
});

test('a panel of a report is written as lines', () => {
  expect(parsePanel('chart', 'metric: loss\nquery: run.name == "a: b"\n\nnonsense')).toEqual({
    ...NEW_PANEL,
    query: 'run.name == "a: b"',
  });
  expect(parsePanel('runs', '').kind).toBe('runs');
});
