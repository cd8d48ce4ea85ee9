/** Molecules: read from XYZ, PDB, MOL and SDF files, and drawn as balls and sticks. */
import { centered, type PointsView } from './point_cloud.ts';

/** Atoms that are read. Of larger molecules, the first are shown. */
export const MAX_ATOMS = 50_000;
/** Atoms up to which bonds are looked for, if the file has none. */
const MAX_BONDED = 20_000;

export interface MoleculeData {
  /** Symbols of the elements, such as `C`. */
  elements: string[];
  /** Three for each atom, within a ball of the radius 1 around zero. */
  positions: Float32Array;
  /** Two indexes of atoms for each bond. */
  bonds: Uint32Array;
  /** Length of an ångström in the positions. */
  angstrom: number;
  /** Atoms of the file. */
  total: number;
}

interface Atom {
  element: string;
  place: [x: number, y: number, z: number];
}

interface Parsed {
  atoms: Atom[];
  /** Absent: the file does not say which atoms are bonded. */
  bonds?: [number, number][];
  total: number;
}

/** Colors and covalent radii, in ångström, of common elements; others are pink. */
const ELEMENTS: { [symbol: string]: readonly [color: string, radius: number] } = {
  H: ['#d9d9d9', 0.31],
  B: ['#ffb5b5', 0.84],
  C: ['#707070', 0.76],
  N: ['#3a5fe0', 0.71],
  O: ['#e0302a', 0.66],
  F: ['#5fbf3a', 0.57],
  Na: ['#9a5fe0', 1.66],
  Mg: ['#5f9f2a', 1.41],
  Si: ['#d9b48f', 1.11],
  P: ['#ff8000', 1.07],
  S: ['#d9c320', 1.05],
  Cl: ['#2fbf2f', 1.02],
  K: ['#7f40c0', 2.03],
  Ca: ['#4faf2a', 1.76],
  Mn: ['#9c7ac7', 1.39],
  Fe: ['#e06633', 1.32],
  Co: ['#f090a0', 1.26],
  Ni: ['#50d050', 1.24],
  Cu: ['#c88033', 1.32],
  Zn: ['#7d80b0', 1.22],
  Br: ['#a62929', 1.2],
  I: ['#940094', 1.39],
};
const OTHER = ['#e05fb0', 1.2] as const;
const kindOf = (element: string): readonly [color: string, radius: number] =>
  ELEMENTS[element] ?? OTHER;

/** Reads a molecule, by the ending of the file; undefined for a text that is none. */
export function readMolecule(path: string, text: string): MoleculeData | undefined {
  const lines = text.split(/\r?\n/);
  const parsed = /\.xyz$/i.test(path)
    ? readXyz(lines)
    : /\.(mol|sdf)$/i.test(path)
      ? readMol(lines)
      : readPdb(lines);
  if (!parsed || parsed.atoms.length === 0) return undefined;
  const { atoms, total } = parsed;
  const places = Float32Array.from(atoms.flatMap(({ place }) => place));
  const positions = centered(places);
  const found = parsed.bonds ?? (atoms.length <= MAX_BONDED ? bondsOf(atoms) : []);
  return {
    elements: atoms.map(({ element }) => element),
    positions,
    bonds: Uint32Array.from(found.flat()),
    angstrom: scaleOf(places, positions),
    total,
  };
}

/** How long in the positions what has the length 1 in the file is. */
function scaleOf(places: Float32Array, positions: Float32Array): number {
  for (let at = 3; at < places.length; at++) {
    const length = (places[at] as number) - (places[at % 3] as number);
    const own = (positions[at] as number) - (positions[at % 3] as number);
    if (Math.abs(length) > 1e-3) return own / length;
  }
  return 1;
}

/** `FE` and `fe` as `Fe`, and isotopes of hydrogen as hydrogen. */
function symbol(text: string): string {
  const [letters = ''] = /[A-Za-z]{1,2}/.exec(text) ?? [];
  const own = letters.charAt(0).toUpperCase() + letters.slice(1).toLowerCase();
  return own === 'D' || own === 'T' ? 'H' : own;
}

function atomOf(element: string, cells: readonly (string | undefined)[]): Atom[] {
  const [x = NaN, y = NaN, z = NaN] = cells.map(cell => (cell?.trim() ? Number(cell) : NaN));
  const own = symbol(element);
  return own !== '' && [x, y, z].every(Number.isFinite) ? [{ element: own, place: [x, y, z] }] : [];
}

/** The first molecule of a file: its number of atoms, a comment, and a line for each atom. */
function readXyz(lines: readonly string[]): Parsed | undefined {
  const total = Number(lines[0]?.trim() || NaN);
  if (!Number.isSafeInteger(total) || total < 1) return undefined;
  const rows = lines.slice(2, 2 + Math.min(total, MAX_ATOMS)).map(line => line.trim().split(/\s+/));
  return { atoms: rows.flatMap(([element = '', ...cells]) => atomOf(element, cells)), total };
}

/** The first model of a file. Records have fixed columns. */
function readPdb(lines: readonly string[]): Parsed {
  const end = lines.findIndex(line => line.startsWith('ENDMDL'));
  const records = lines
    .slice(0, end < 0 ? undefined : end)
    // Of atoms that were seen at several places, the first place is shown.
    .filter(line => /^(ATOM {2}|HETATM)/.test(line) && /[ A1]/.test(line.charAt(16) || ' '));
  const atoms = records.slice(0, MAX_ATOMS).flatMap(line => {
    const element = line.slice(76, 78).trim() || elementOfName(line.slice(12, 16));
    return atomOf(element, [line.slice(30, 38), line.slice(38, 46), line.slice(46, 54)]);
  });
  return { atoms, total: records.length };
}

/** Names of atoms have their element in the first two columns: ` CA ` is carbon, `CA  ` calcium. */
function elementOfName(name: string): string {
  return name.startsWith(' ') || /\d/.test(name.charAt(0)) ? name.charAt(1) : name.slice(0, 2);
}

/** The first molecule of a file in the version V2000, which has its bonds. */
function readMol(lines: readonly string[]): Parsed | undefined {
  const counts = lines[3] ?? '';
  const total = Number(counts.slice(0, 3));
  const bondCount = Number(counts.slice(3, 6));
  if (!/V2000/.test(counts) || !(total > 0) || !(bondCount >= 0)) return undefined;
  const atoms = lines
    .slice(4, 4 + total)
    .flatMap(line =>
      atomOf(line.slice(31, 34), [line.slice(0, 10), line.slice(10, 20), line.slice(20, 30)]),
    );
  if (atoms.length < total) return undefined;
  const bonds = lines
    .slice(4 + total, 4 + total + bondCount)
    .map((line): [number, number] => [Number(line.slice(0, 3)) - 1, Number(line.slice(3, 6)) - 1])
    .filter(pair => pair.every(at => atoms[at] !== undefined));
  return { atoms, bonds, total };
}

/** Longest bond, in ångström, and how much longer than the sum of the radii a bond may be. */
const LONGEST = 4.6;
const SLACK = 0.45;

/** Pairs of atoms that are as close as bonded ones. Only atoms in neighboring cells of a grid are compared. */
function bondsOf(atoms: readonly Atom[]): [number, number][] {
  const cellOf = ({ place }: Atom): number[] => place.map(value => Math.floor(value / LONGEST));
  const grid = new Map<string, number[]>();
  const bonds: [number, number][] = [];
  for (const [at, atom] of atoms.entries()) {
    const [x = 0, y = 0, z = 0] = cellOf(atom);
    for (const [dx, dy, dz] of NEIGHBORS)
      for (const other of grid.get(`${x + dx} ${y + dy} ${z + dz}`) ?? [])
        if (isBond(atom, atoms[other] as Atom)) bonds.push([other, at]);
    const key = `${x} ${y} ${z}`;
    const known = grid.get(key);
    if (known) known.push(at);
    else grid.set(key, [at]);
  }
  return bonds;
}

const STEPS = [-1, 0, 1];
const NEIGHBORS = STEPS.flatMap(x => STEPS.flatMap(y => STEPS.map(z => [x, y, z] as const)));

function isBond(first: Atom, second: Atom): boolean {
  // Two hydrogen atoms are near each other in many molecules.
  if (first.element === 'H' && second.element === 'H') return false;
  const distance = Math.hypot(...first.place.map((value, at) => value - (second.place[at] ?? 0)));
  return distance > 0.4 && distance < kindOf(first.element)[1] + kindOf(second.element)[1] + SLACK;
}

/** The distance of the eye from the middle, in radii of the molecule. */
const EYE = 3;
/** Balls are smaller than atoms, so that bonds are seen. */
const BALL = 0.45;
const STICK = 0.14;

/** The shapes that are drawn, the farthest first. */
type Shape = { depth: number } & (
  | { kind: 'ball'; x: number; y: number; radius: number; color: string }
  | { kind: 'stick'; from: [number, number]; to: [number, number]; width: number; color: string }
);

/** The shapes of a molecule as it is seen, in a picture of this size. */
export function moleculeShapes(
  { elements, positions, bonds, angstrom }: MoleculeData,
  { turn, tilt, zoom }: PointsView,
  width: number,
  height: number,
): Shape[] {
  const reach = 0.46 * Math.min(width, height) * EYE * zoom;
  const seen = elements.map((_, at) => {
    const [x = 0, y = 0, z = 0] = positions.subarray(3 * at, 3 * at + 3);
    const forward = Math.sin(turn) * x + Math.cos(turn) * y;
    const depth = forward * Math.cos(tilt) - z * Math.sin(tilt);
    const scale = reach / Math.max(EYE + depth, 0.1);
    return {
      depth,
      scale,
      x: width / 2 + (Math.cos(turn) * x - Math.sin(turn) * y) * scale,
      y: height / 2 - (z * Math.cos(tilt) + forward * Math.sin(tilt)) * scale,
    };
  });
  const balls = seen.map(({ x, y, depth, scale }, at): Shape => {
    const [color, radius] = kindOf(elements[at] as string);
    return { kind: 'ball', depth, x, y, radius: BALL * radius * angstrom * scale, color };
  });
  const sticks: Shape[] = [];
  for (let at = 0; at < bonds.length; at += 2) {
    const ends = [bonds[at] as number, bonds[at + 1] as number];
    const [first, second] = ends.map(end => seen[end]!);
    if (!first || !second) continue;
    const middle: [number, number] = [(first.x + second.x) / 2, (first.y + second.y) / 2];
    // Each half has the color of its atom, and is behind it.
    for (const [own, end] of [first, second].map((one, half) => [one, ends[half]!] as const))
      sticks.push({
        kind: 'stick',
        depth: (3 * own.depth + first.depth + second.depth) / 5 + 1e-4,
        from: [own.x, own.y],
        to: middle,
        width: 2 * STICK * angstrom * own.scale,
        color: kindOf(elements[end] as string)[0],
      });
  }
  return [...sticks, ...balls].sort((a, b) => b.depth - a.depth);
}

/** Draws shapes; balls have an edge, so that balls of the same color are told apart. */
export function drawShapes(
  context: CanvasRenderingContext2D,
  shapes: readonly Shape[],
  edge: string,
): void {
  context.lineCap = 'round';
  for (const shape of shapes) {
    context.beginPath();
    if (shape.kind === 'ball') {
      context.arc(shape.x, shape.y, Math.max(shape.radius, 0.5), 0, 2 * Math.PI);
      context.fillStyle = shape.color;
      context.fill();
      context.strokeStyle = edge;
      context.lineWidth = Math.max(1, shape.radius / 12);
      if (shape.radius > 3) context.stroke();
      continue;
    }
    context.moveTo(...shape.from);
    context.lineTo(...shape.to);
    context.strokeStyle = shape.color;
    context.lineWidth = Math.max(1, shape.width);
    context.stroke();
  }
}
