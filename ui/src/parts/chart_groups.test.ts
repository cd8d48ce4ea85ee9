/** Colors of groups of runs. */
import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { RunSchema, type Run } from '../gen/matyan/runs/v1/run_pb.ts';
import { indexColor, placeColors, type PaletteColor } from '../plot/palette.ts';
import { colored, groupId, lineColors } from './chart_groups.ts';

/** Two runs of each group. The groups are created in this order, and their names are in the opposite order. */
const GROUPS = ['n', 'm', 'l', 'k', 'j', 'i', 'h', 'g', 'f', 'e', 'd', 'c'];
const RUNS = GROUPS.flatMap((group, at) =>
  [2 * at, 2 * at + 1].map(us =>
    create(RunSchema, { runId: `${group}-${us}`, props: { createdUs: BigInt(us) } }),
  ),
);

const groupOf = ({ runId }: Run): string => runId.slice(0, 1);

function runsOf(...groups: string[]): Run[] {
  return RUNS.filter(run => groups.includes(groupOf(run)));
}

function places(colors: ReadonlyMap<string, PaletteColor>): Map<string, PaletteColor> {
  return new Map([...colors].map(([runId, color]) => [runId.slice(0, 1), color]));
}

test('newer groups change no color, and all groups have different colors', () => {
  let before = new Map<string, PaletteColor>();
  for (let count = 1; count <= GROUPS.length; count++) {
    const after = places(lineColors(runsOf(...GROUPS.slice(0, count)).toReversed(), groupOf));
    for (const [group, color] of before) expect(after.get(group), group).toBe(color);
    expect(new Set(after.values()).size).toBe(count);
    before = after;
  }
});

test('groups keep their colors when others leave, come back, or are new', () => {
  let known: ReadonlyMap<string, number> = new Map();
  const colorsOf = (ids: readonly string[]): ReadonlyMap<string, PaletteColor> => {
    const found = placeColors(ids, known, new Map());
    known = new Map([...known, ...found]);
    return new Map([...found].map(([id, place]) => [id, indexColor(place)]));
  };
  const before = places(lineColors(runsOf(...GROUPS.slice(2, 8)), groupOf, colorsOf));
  for (const groups of [GROUPS.slice(4, 8), GROUPS.slice(4, 10), GROUPS.slice(3, 9)]) {
    const after = places(lineColors(runsOf(...groups), groupOf, colorsOf));
    expect(new Set(after.values()).size).toBe(groups.length);
    for (const [group, color] of before)
      if (after.has(group)) expect(after.get(group), group).toBe(color);
  }
});

test('a group is as old as its oldest run', () => {
  expect(colored(runsOf('m').toReversed(), groupOf)).toEqual([
    { runId: groupId('m'), createdUs: 2n },
  ]);
  expect(colored(runsOf('m'))).toEqual([
    { runId: 'm-2', createdUs: 2n },
    { runId: 'm-3', createdUs: 3n },
  ]);
});
