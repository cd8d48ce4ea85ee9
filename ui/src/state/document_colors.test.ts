import { expect, test } from 'vitest';

import { ownPlace } from '../plot/palette.ts';
import { byAge, DocumentColors, type AgedRun } from './document_colors.ts';

const NONE: ReadonlyMap<string, number> = new Map();
/** Runs that prefer few colors, the oldest first. */
const RUNS = Array.from({ length: 400 }, (_, at) => ({ runId: `run ${at}`, createdUs: BigInt(at) }))
  .filter(({ runId }) => ownPlace(runId) < 3)
  .slice(0, 30);

function some(...indexes: number[]): AgedRun[] {
  return indexes.map(at => RUNS[at]!);
}

interface TestPanel {
  key: symbol;
  runs: AgedRun[];
}

function panelsOf(...all: AgedRun[][]): TestPanel[] {
  return all.map((runs, at) => ({ key: Symbol(`panel ${at}`), runs }));
}

function permutations<T>(all: readonly T[]): T[][] {
  if (all.length === 0) return [[]];
  return all.flatMap((one, at) => permutations(all.toSpliced(at, 1)).map(rest => [one, ...rest]));
}

/** Places after panels were read in this order, with colors drawn after each of them. */
function read(panels: readonly TestPanel[]): Map<string, number> {
  const colors = new DocumentColors();
  for (const { key, runs } of panels) {
    colors.show(key, 'all', runs);
    colors.places(NONE);
  }
  return new Map(colors.places(NONE));
}

test('colors do not depend on the order in which panels and runs arrive', () => {
  const panels = panelsOf(some(0, 1), some(2), some(1, 2, 3), some(4, 3), RUNS.slice(3, 20));
  const expected = read(panels);
  for (const order of permutations(panels)) {
    expect(read(order)).toEqual(expected);
    const reversed = order.map(({ key, runs }) => ({ key, runs: runs.toReversed() }));
    expect(read(reversed)).toEqual(expected);
  }
  // Panels that move to other places of the document, or a copy with its own panels.
  expect(read(panelsOf(...panels.map(({ runs }) => runs).toReversed()))).toEqual(expected);
});

test('a run has one color in all panels, and runs of a panel have different colors', () => {
  const panels = panelsOf(some(0, 1, 2), some(5, 6, 7, 8), some(2, 8, 9));
  const places = read(panels);
  for (const { runs } of panels)
    expect(new Set(runs.map(({ runId }) => places.get(runId))).size).toBe(runs.length);
});

test('a run keeps its color when others arrive and leave, until the document is opened again', () => {
  const colors = new DocumentColors();
  const key = Symbol('live');
  colors.show(key, 'newest', RUNS.slice(0, 10));
  let before = colors.places(NONE);
  for (let first = 1; first <= 20; first++) {
    const runs = RUNS.slice(first, first + 10);
    expect(colors.show(key, 'newest', runs)).toBe(true);
    const after = colors.places(NONE);
    expect(new Set(after.values()).size).toBe(runs.length);
    for (const { runId } of runs.slice(0, -1)) expect(after.get(runId)).toBe(before.get(runId));
    before = after;
  }
  const last = RUNS.slice(20, 30);
  expect(colors.show(key, 'newest', last.toReversed())).toBe(false);
  // Another query starts anew.
  expect(colors.show(key, 'best', last)).toBe(true);
  expect(colors.places(NONE)).toEqual(read(panelsOf(last)));
  expect(colors.hide(key)).toBe(true);
  expect(colors.places(NONE).size).toBe(0);
});

test('a newer run changes no color when the document is opened again', () => {
  const before = read(panelsOf(RUNS.slice(0, 9), RUNS.slice(4, 9)));
  const after = read(panelsOf(RUNS.slice(0, 12), RUNS.slice(4, 10)));
  for (const [id, place] of before) expect(after.get(id)).toBe(place);
});

test('a chosen color stays, and other runs avoid it', () => {
  const colors = new DocumentColors();
  colors.show(Symbol('panel'), 'all', some(0, 1, 2));
  const [first, second] = some(0, 1);
  const place = ownPlace(first!.runId);
  const places = colors.places(new Map([[second!.runId, place]]));
  expect(places.get(second!.runId)).toBe(place);
  expect(new Set(places.values()).size).toBe(3);
  expect(colors.places(NONE).get(first!.runId)).toBe(place);
});

test('panels that leave compute no colors, and the next document starts anew', () => {
  const colors = new DocumentColors();
  const panels = panelsOf(some(0, 1), some(2, 3));
  for (const { key, runs } of panels) colors.show(key, 'all', runs);
  colors.show(panels[0]!.key, 'all', some(0, 1, 4));
  const places = colors.places(NONE);
  for (const { key } of panels) {
    colors.hide(key);
    expect(colors.found).toBe(places);
  }
  const next = panelsOf(some(5), some(6));
  for (const { key, runs } of next) colors.show(key, 'all', runs);
  colors.show(next[0]!.key, 'all', some(4, 5));
  const others = new DocumentColors();
  for (const { key, runs } of next) others.show(key, 'all', runs);
  others.show(next[0]!.key, 'all', some(4, 5));
  expect(colors.places(NONE)).toEqual(others.places(NONE));
});

test('runs of the same time are in the order of their ids', () => {
  const runs = ['b', 'a', 'c'].map(runId => ({ runId, createdUs: 1n }));
  const oldest = { runId: 'z', createdUs: 0n };
  expect([...runs, oldest].sort(byAge).map(({ runId }) => runId)).toEqual(['z', 'a', 'b', 'c']);
  expect(byAge(oldest, oldest)).toBe(0);
});
