import { expect, test } from 'vitest';

import { drawPoints, MAX_POINTS, readPoints, UnreadablePoints } from './point_cloud.ts';

const text = (content: string): Uint8Array => new TextEncoder().encode(content);
const header = (format: string, count: number, ...properties: string[]): string =>
  [
    'ply',
    `format ${format} 1.0`,
    'comment from a test',
    `element vertex ${count}`,
    ...properties.map(property => `property ${property}`),
    'element face 1',
    'property list uchar int vertex_indices',
    'end_header\n',
  ].join('\n');
const XYZ = ['float x', 'float y', 'float z'];
const rounded = (all: Float32Array): number[] => [...all].map(one => Math.round(one * 1e4) / 1e4);

/** Three points on a line through the space. */
const LINE = [-1, 0, 1].flatMap(at => Array.from({ length: 3 }, () => at));
const PLACES = LINE.map(at => Math.round((at / Math.sqrt(3)) * 1e4) / 1e4);

test('points of text are moved to the middle and scaled', () => {
  const rows = '10 10 10\n20 20 20\n30 30 30\n3 0 1 2\n';
  const points = readPoints('ply', text(header('ascii', 3, ...XYZ) + rows));
  expect(rounded(points.positions)).toEqual(PLACES);
  expect(points).toMatchObject({ total: 3, colors: undefined, labels: undefined });
});

test.each([
  ['binary_little_endian', true],
  ['binary_big_endian', false],
])('points of %s have colors, and a file that is cut has fewer', (format, isLittle) => {
  const start = text(header(format, 3, ...XYZ, 'uchar red', 'uchar green', 'uchar blue'));
  const view = new DataView(new ArrayBuffer(3 * 15));
  for (const [at, value] of LINE.entries())
    view.setFloat32(Math.floor(at / 3) * 15 + (at % 3) * 4, value, isLittle);
  for (const at of [0, 1, 2]) view.setUint8(at * 15 + 13, 100 + at);
  const file = new Uint8Array([...start, ...new Uint8Array(view.buffer)]);
  const points = readPoints('PLY', file);
  expect(rounded(points.positions)).toEqual(PLACES);
  expect([...points.colors!]).toEqual([0, 100, 0, 0, 101, 0, 0, 102, 0]);
  const cut = readPoints('ply', file.subarray(0, file.length - 1), true);
  expect([cut.positions.length, cut.total]).toEqual([6, 3]);
});

test('the points of W&B have labels or colors', () => {
  const labeled = readPoints('pts.json', text('[[0, 0, 0, 1], [2, 0, 0, 7], ["x", 0, 0, 9]]'));
  expect([...labeled.labels!]).toEqual([1, 7]);
  expect(labeled.total).toBe(3);
  const scene = { type: 'lidar/beta', points: [[0, 0, 0, 1, 2, 3]], boxes: [] };
  expect([...readPoints('pts.json', text(JSON.stringify(scene))).colors!]).toEqual([1, 2, 3]);
});

test('more points than can be drawn are thinned evenly', () => {
  const count = 2 * MAX_POINTS + 1;
  const start = text(header('binary_little_endian', count, 'char x', 'char y', 'char z'));
  const file = new Uint8Array(start.length + 3 * count);
  file.set(start);
  const points = readPoints('ply', file);
  expect(points.total).toBe(count);
  expect(points.positions.length / 3).toBeLessThanOrEqual(MAX_POINTS);
});

test.each([
  ['ply', 'solid'],
  ['ply', header('ascii', 1, 'float x', 'float y') + '1 2\n'],
  ['ply', header('ascii', 1, ...XYZ, 'list uchar int more') + '1 2 3\n'],
  ['ply', header('ascii', 0, ...XYZ)],
  ['ply', 'ply\nformat ascii 1.0\nelement face 1\nend_header\n'],
  ['pts.json', '{"points": 5}'],
  ['pts.json', '[[1, 2'],
  ['pts.json', '[]'],
])('%s: what has no points says so', (format, content) => {
  expect(() => readPoints(format, text(content))).toThrow(UnreadablePoints);
});

test('JSON that is cut is refused, because its start is no JSON', () => {
  expect(() => readPoints('pts.json', text('[[1, 2, 3]'), true)).toThrow('too large');
});

test('the nearest point is in front, and nothing is drawn outside of the image', () => {
  const points = readPoints('pts.json', text('[[0, -1, 0, 255, 0, 0], [0, 1, 0, 0, 255, 0]]'));
  const size = { width: 20, height: 10 };
  const target = { ...size, pixels: new Uint32Array(200), depths: new Float32Array(200) };
  const middle = 5 * 20 + 10;
  drawPoints(points, { turn: 0, tilt: 0, zoom: 1 }, target, false);
  expect(target.pixels[middle]).toBe(0xff00_00ff);
  drawPoints(points, { turn: Math.PI, tilt: 0, zoom: 1 }, target, false);
  expect(target.pixels[middle]).toBe(0xff00_ff00);
  drawPoints(points, { turn: Math.PI / 2, tilt: 0, zoom: 1e3 }, target, false);
  expect(target.pixels.every(pixel => pixel === 0)).toBe(true);
});
