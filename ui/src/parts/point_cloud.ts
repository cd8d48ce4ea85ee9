/** Points in space: read from PLY files and from the JSON of W&B, and drawn without a graphics card. */
import { PALETTE } from '../plot/palette.ts';

/** Points that are drawn; of more, they are every second one, or fewer. */
export const MAX_POINTS = 500_000;

export interface PointCloudData {
  /** Three for each point, within a ball of the radius 1 around zero. */
  positions: Float32Array;
  /** Red, green and blue of each point, if the file has colors. */
  colors: Uint8Array | undefined;
  /** A number of each point, if the file has labels. */
  labels: Uint8Array | undefined;
  /** Points of the file. */
  total: number;
}

/** A file that has no points which can be shown. */
export class UnreadablePoints extends Error {}

/** The value of a column in a row of a table of points. */
type CellReader = (row: number, column: number) => number;

interface PointTable {
  rows: number;
  total: number;
  /** Places of the columns; absent: there is no such column. */
  columns: { [name: string]: number | undefined };
  value: CellReader;
}

const COLORS = ['red', 'green', 'blue'];

/** Reads points, from the start of a file if it `isCut`. */
export function readPoints(format: string, bytes: Uint8Array, isCut = false): PointCloudData {
  return pointsOf(
    format.toLowerCase() === 'ply' ? plyTable(bytes, isCut) : jsonTable(bytes, isCut),
  );
}

/** The points of a table, moved to the middle and scaled. Points that are not finite are left out. */
function pointsOf({ rows, total, columns, value }: PointTable): PointCloudData {
  const axes = ['x', 'y', 'z'].map(name => columns[name]);
  if (axes.some(axis => axis === undefined))
    throw new UnreadablePoints('The file has no columns x, y and z.');
  const every = Math.max(1, Math.ceil(rows / MAX_POINTS));
  const positions = new Float32Array(3 * Math.ceil(rows / every));
  const hasColors = COLORS.every(name => columns[name] !== undefined);
  const colors = hasColors ? new Uint8ClampedArray(positions.length) : undefined;
  const labels = columns.label === undefined ? undefined : new Uint8Array(positions.length / 3);
  let count = 0;
  for (let row = 0; row < rows; row += every) {
    const place = axes.map(axis => value(row, axis as number));
    if (!place.every(Number.isFinite)) continue;
    positions.set(place, 3 * count);
    if (colors)
      for (const [at, name] of COLORS.entries())
        colors[3 * count + at] = value(row, columns[name] as number);
    if (labels) labels[count] = value(row, columns.label as number);
    count += 1;
  }
  if (count === 0) throw new UnreadablePoints('The file has no points.');
  return {
    positions: centered(positions.subarray(0, 3 * count)),
    colors: colors && new Uint8Array(colors.buffer, 0, 3 * count),
    labels: labels?.subarray(0, count),
    total,
  };
}

/** Moved to the middle, and scaled to the radius 1. */
export function centered(positions: Float32Array): Float32Array {
  const low = [Infinity, Infinity, Infinity];
  const high = [-Infinity, -Infinity, -Infinity];
  for (const [at, value] of positions.entries()) {
    low[at % 3] = Math.min(low[at % 3] as number, value);
    high[at % 3] = Math.max(high[at % 3] as number, value);
  }
  const middle = low.map((one, at) => one / 2 + (high[at] as number) / 2);
  const radius = Math.hypot(...low.map((one, at) => (high[at] as number) / 2 - one / 2)) || 1;
  return positions.map((value, at) => (value - (middle[at % 3] as number)) / radius);
}

type Scalar = [bytes: number, read: (view: DataView, at: number, isLittle: boolean) => number];
const SCALARS: { [name: string]: Scalar } = {};
for (const [names, bytes, method] of [
  ['char int8', 1, 'getInt8'],
  ['uchar uint8', 1, 'getUint8'],
  ['short int16', 2, 'getInt16'],
  ['ushort uint16', 2, 'getUint16'],
  ['int int32', 4, 'getInt32'],
  ['uint uint32', 4, 'getUint32'],
  ['float float32', 4, 'getFloat32'],
  ['double float64', 8, 'getFloat64'],
] as const)
  for (const name of names.split(' '))
    SCALARS[name] = [bytes, (view, at, isLittle) => view[method](at, isLittle)];

const HEADER_BYTES = 16_384;
/** Rows of a text that are read. */
const MAX_TEXT_ROWS = 4_000_000;
const HEADER_END = /end_header\r?\n/;

/** The vertices of a PLY file, which must come first in it. A file that is cut has fewer rows. */
function plyTable(bytes: Uint8Array, isCut: boolean): PointTable {
  const start = new TextDecoder('latin1').decode(bytes.subarray(0, HEADER_BYTES));
  const end = HEADER_END.exec(start);
  if (!start.startsWith('ply') || !end)
    throw new UnreadablePoints('The file does not begin like a PLY file.');
  const lines = start.slice(0, end.index).split(/\r?\n/);
  const words = lines.map(line => line.trim().split(/\s+/));
  const first = words.findIndex(([word]) => word === 'element');
  const [, name, count] = words[first] ?? [];
  if (name !== 'vertex') throw new UnreadablePoints('The file does not begin with its vertices.');
  const next = words.findIndex(([word], at) => word === 'element' && at > first);
  const properties = words
    .slice(first, next < 0 ? undefined : next)
    .filter(([word]) => word === 'property');
  const columns: PointTable['columns'] = {};
  const scalars: Scalar[] = [];
  const places: number[] = [];
  let width = 0;
  for (const [, type = '', column = ''] of properties) {
    const scalar = SCALARS[type];
    if (!scalar) throw new UnreadablePoints(`The vertices have a column of the type ${type}.`);
    columns[column] = scalars.length;
    scalars.push(scalar);
    places.push(width);
    width += scalar[0];
  }
  const total = Number(count);
  if (!Number.isSafeInteger(total) || total < 0)
    throw new UnreadablePoints('The header does not say how many points there are.');
  const content = bytes.subarray(end.index + end[0].length);
  const format = words.find(([word]) => word === 'format')?.[1];
  if (format === 'ascii') {
    const text = new TextDecoder().decode(content).trimStart();
    const whole = isCut ? text.slice(0, text.lastIndexOf('\n') + 1) : text;
    const rows = whole.trimEnd().split(/\r?\n/, Math.min(total, MAX_TEXT_ROWS));
    return {
      rows: rows.length,
      total,
      columns,
      value: rowReader(row => (rows[row] ?? '').trim().split(/\s+/).map(Number)),
    };
  }
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const isLittle = format !== 'binary_big_endian';
  const rows = Math.min(total, width === 0 ? 0 : Math.floor(content.length / width));
  const value: CellReader = (row, column) =>
    (scalars[column] as Scalar)[1](view, row * width + (places[column] as number), isLittle);
  return { rows, total, columns, value };
}

/** Reads the cells of rows that are parsed one at a time. */
function rowReader(parse: (row: number) => readonly number[]): CellReader {
  let at = -1;
  let cells: readonly number[] = [];
  return (row, column) => {
    if (row !== at) cells = parse(row);
    at = row;
    return cells[column] ?? NaN;
  };
}

/** The points of W&B: lists of x, y and z; then nothing, a label, or red, green and blue. */
function jsonTable(bytes: Uint8Array, isCut: boolean): PointTable {
  if (isCut) throw new UnreadablePoints('The file is too large to be shown.');
  let content: unknown;
  try {
    content = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new UnreadablePoints('The file is not JSON.');
  }
  const points: unknown = Array.isArray(content)
    ? content
    : (content as { points?: unknown } | null)?.points;
  if (!Array.isArray(points)) throw new UnreadablePoints('The file has no list of points.');
  const rows = points.filter((row): row is unknown[] => Array.isArray(row));
  const more = [[], ['label'], [], COLORS][(rows[0]?.length ?? 0) - 3] ?? [];
  const columns = Object.fromEntries(['x', 'y', 'z', ...more].map((name, at) => [name, at]));
  const value = rowReader(row =>
    (rows[row] ?? []).map(cell => (typeof cell === 'number' ? cell : NaN)),
  );
  return { rows: rows.length, total: points.length, columns, value };
}

/** From where points are seen: angles around the vertical axis and above the horizon, and a factor. */
export interface PointsView {
  turn: number;
  tilt: number;
  zoom: number;
}

export const FIRST_VIEW: PointsView = { turn: 0.6, tilt: 0.45, zoom: 1 };

/** An image in which points are drawn, with the distance of what is shown in each of its pixels. */
export interface PointsTarget {
  width: number;
  height: number;
  /** Pixels as red, green, blue and opacity in one number each, in the order of the bytes. */
  pixels: Uint32Array;
  depths: Float32Array;
}

type Rgb = readonly [red: number, green: number, blue: number];

const OPAQUE = 0xff00_0000;
const packed = ([red, green, blue]: Rgb): number =>
  (OPAQUE | (blue << 16) | (green << 8) | red) >>> 0;

/** The distance of the eye from the middle, in radii of the points. */
const EYE = 3;
/** The part of its own color that the farthest point keeps. */
const FAR = 0.35;

function hexColor(hex: string): Rgb {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** Draws points: their own colors, the colors of their labels, or a color that fades with the distance. */
export function drawPoints(
  { positions, colors, labels }: PointCloudData,
  { turn, tilt, zoom }: PointsView,
  { width, height, pixels, depths }: PointsTarget,
  isDark: boolean,
): void {
  pixels.fill(0);
  depths.fill(Infinity);
  const palette = PALETTE.map(({ dark, light }) => hexColor(isDark ? dark : light));
  const own = palette[0] as Rgb;
  const sinTurn = Math.sin(turn);
  const cosTurn = Math.cos(turn);
  const sinTilt = Math.sin(tilt);
  const cosTilt = Math.cos(tilt);
  const reach = 0.48 * Math.min(width, height) * EYE * zoom;
  const dot = Math.max(1, Math.round(Math.min(width, height) / 250));
  for (let at = 0; at < positions.length; at += 3) {
    const x = positions[at] as number;
    const y = positions[at + 1] as number;
    const z = positions[at + 2] as number;
    const forward = sinTurn * x + cosTurn * y;
    const depth = forward * cosTilt - z * sinTilt;
    const scale = reach / (EYE + depth);
    const left = Math.round(width / 2 + (cosTurn * x - sinTurn * y) * scale);
    const top = Math.round(height / 2 - (z * cosTilt + forward * sinTilt) * scale);
    if (left < 0 || top < 0 || left + dot > width || top + dot > height) continue;
    const color = colors
      ? packed([colors[at] as number, colors[at + 1] as number, colors[at + 2] as number])
      : labels
        ? packed(palette[(labels[at / 3] as number) % palette.length] as Rgb)
        : faded(own, depth);
    for (let row = top; row < top + dot; row++)
      for (let pixel = row * width + left; pixel < row * width + left + dot; pixel++)
        if (depth < (depths[pixel] as number)) {
          depths[pixel] = depth;
          pixels[pixel] = color;
        }
  }
}

/** A color that is the more transparent the farther it is. */
function faded(color: Rgb, depth: number): number {
  const opacity = Math.round(255 * (1 - ((1 - FAR) * (depth + 1)) / 2));
  return ((packed(color) & 0x00ff_ffff) | (Math.min(255, Math.max(0, opacity)) << 24)) >>> 0;
}
