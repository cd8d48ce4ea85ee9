import { expect, test } from 'vitest';

import { moleculeShapes, readMolecule } from './molecule.ts';
import { FIRST_VIEW } from './point_cloud.ts';

const WATER = '3\nwater\nO 0 0 0.119\nh 0 0.763 -0.477 extra\nD 0 -0.763 -0.477\n';
const pdb = (name: string, x: number, element = '', place = ' ', record = 'ATOM  '): string =>
  `${record}    1 ${name}${place}ALA A   1    ${x.toFixed(3).padStart(8)}   0.000   0.000  1.00  0.00          ${element.padStart(2)}`;
const MOL = [
  ...['methanal', '', '', '  4  3  0  0  0  0            999 V2000'],
  ...['    0.0000    0.0000    0.0000 C   0  0', '    1.2000    0.0000    0.0000 O   0  0'],
  ...['   -0.5000    0.9000    0.0000 H   0  0', '   -0.5000   -0.9000    0.0000 H   0  0'],
  ...['  1  2  2  0', '  1  3  1  0', '  1  9  1  0', 'M  END'],
].join('\n');

const pairs = (bonds: Uint32Array | undefined): string[] =>
  Array.from({ length: (bonds?.length ?? 0) / 2 }, (_, at) =>
    [...bonds!.subarray(2 * at, 2 * at + 2)].sort().join('-'),
  ).sort();

test('bonds are found where a file has none', () => {
  const water = readMolecule('w.xyz', WATER);
  expect(water?.elements).toEqual(['O', 'H', 'H']);
  // The hydrogen atoms are 1.5 ångström from each other.
  expect(pairs(water?.bonds)).toEqual(['0-1', '0-2']);
  const [first, second] = [0, 1].map(at => water!.positions.subarray(3 * at, 3 * at + 3));
  const distance = Math.hypot(...[...first!].map((value, at) => value - second![at]!));
  expect(distance).toBeCloseTo(0.968 * water!.angstrom, 2);
});

test('atoms in neighboring cells of the grid are bonded, and others are not', () => {
  const carbon = (x: number): string => `C ${x} 0 0`;
  const chain = Array.from({ length: 9 }, (_, at) => carbon(1.5 * at - 6));
  const found = readMolecule('c.xyz', `9\n\n${chain.join('\n')}`);
  expect(pairs(found?.bonds).length).toBe(8);
});

test('the records of PDB have fixed columns', () => {
  const lines = [
    'HEADER    A PROTEIN',
    pdb(' CA ', 0),
    pdb('CA  ', 10, 'CA', ' ', 'HETATM'),
    pdb(' N  ', 20, 'N', 'A'),
    pdb(' N  ', 21, 'N', 'B'),
    pdb('1HB ', 30),
    'ENDMDL',
    pdb(' O  ', 40, 'O'),
  ];
  const found = readMolecule('p.pdb', lines.join('\r\n'));
  expect([found?.elements, found?.total]).toEqual([['C', 'Ca', 'N', 'H'], 4]);
});

test('a MOL file has its own bonds', () => {
  const found = readMolecule('m.sdf', MOL);
  expect(found?.elements).toEqual(['C', 'O', 'H', 'H']);
  expect(pairs(found?.bonds)).toEqual(['0-1', '0-2']);
});

test('a text that is not a molecule is not read as one', () => {
  for (const [path, text] of [
    ['points.xyz', '0.1 0.2 0.3\n0.4 0.5 0.6'],
    ['a.xyz', ''],
    ['a.pdb', 'no records'],
    ['a.mol', MOL.replace('V2000', 'V3000')],
    ['a.mol', 'a\nb\nc\n 99  0 V2000'],
  ] as const)
    expect(readMolecule(path, text), path).toBeUndefined();
});

test('what is near is drawn last, and all of it within the picture', () => {
  const shapes = moleculeShapes(readMolecule('w.xyz', WATER)!, FIRST_VIEW, 200, 100);
  expect(shapes.length).toBe(3 + 2 * 2);
  const depths = shapes.map(({ depth }) => depth);
  expect(depths).toEqual(depths.toSorted((a, b) => b - a));
  for (const shape of shapes)
    if (shape.kind === 'ball') {
      expect(shape.x).toBeGreaterThan(0);
      expect(shape.x).toBeLessThan(200);
      expect(shape.y).toBeGreaterThan(0);
      expect(shape.y).toBeLessThan(100);
    }
  expect(shapes.at(-1)?.kind).toBe('ball');
});
