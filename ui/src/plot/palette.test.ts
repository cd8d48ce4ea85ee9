/**
 * How well the colors of lines differ, for people with and without color-blindness, on both
 * backgrounds.
 */
import { expect, test } from 'vitest';

import styles from '../styles.css?raw';
import { densityColor } from './density.ts';
import { PALETTE } from './palette.ts';

type Triple = readonly [number, number, number];

/**
 * Linear RGB as seen by people who lack one kind of cones. Machado, Oliveira and Fernandes 2009,
 * severity 1.
 */
const VISIONS = {
  usual: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protanopia: [
    0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998,
  ],
  deuteranopia: [
    0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881,
  ],
  tritanopia: [
    1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039,
  ],
};

function linear(hex: string): Triple {
  const part = (at: number): number => {
    const value = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return [part(1), part(3), part(5)];
}

/** The product of a matrix, row by row, and a color. */
function times(matrix: readonly number[], color: Triple): Triple {
  const row = (first: number): number =>
    color.reduce((sum, part, at) => sum + part * (matrix[first + at] as number), 0);
  return [row(0), row(3), row(6)];
}

/** CIELAB, for the white of D65. */
function lab(color: Triple): Triple {
  const inside = color.map(part => Math.min(1, Math.max(0, part))) as unknown as Triple;
  const toXyz = [0.4124, 0.3576, 0.1805, 0.2126, 0.7152, 0.0722, 0.0193, 0.1192, 0.9505];
  const [x, y, z] = times(toXyz, inside);
  const root = (value: number): number =>
    value > 0.008856 ? Math.cbrt(value) : 7.787 * value + 16 / 116;
  const fx = root(x / 0.95047);
  const fy = root(y);
  const fz = root(z / 1.08883);
  return [116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)];
}

/** Colors with this distance differ visibly even in thin lines. */
const LEAST = 10;
/** Few people miss the cones for blue. */
const LEAST_OF_TRITANOPIA = 7;
const DEGREE = Math.PI / 180;

/** CIEDE2000: 1 is a difference that is just seen between two areas next to each other. */
function distance([l1, a1, b1]: Triple, [l2, a2, b2]: Triple): number {
  const steep = (chroma: number): number => Math.sqrt(chroma ** 7 / (chroma ** 7 + 25 ** 7));
  const shift = 1.5 - steep((Math.hypot(a1, b1) + Math.hypot(a2, b2)) / 2) / 2;
  const c1 = Math.hypot(a1 * shift, b1);
  const c2 = Math.hypot(a2 * shift, b2);
  const hue = (a: number, b: number): number => (Math.atan2(b, a * shift) / DEGREE + 360) % 360;
  const h1 = hue(a1, b1);
  const h2 = hue(a2, b2);
  const isAcross = Math.abs(h1 - h2) > 180;
  const turn = h2 - h1 + (isAcross ? (h2 < h1 ? 360 : -360) : 0);
  const l = (l1 + l2) / 2;
  const c = (c1 + c2) / 2;
  const h = (h1 + h2 + (isAcross ? 360 : 0)) / 2;
  const cos = (factor: number, offset: number): number => Math.cos((factor * h + offset) * DEGREE);
  const hueWeight =
    1 - 0.17 * cos(1, -30) + 0.24 * cos(2, 0) + 0.32 * cos(3, 6) - 0.2 * cos(4, -63);
  const byLightness = (l2 - l1) / (1 + (0.015 * (l - 50) ** 2) / Math.sqrt(20 + (l - 50) ** 2));
  const byChroma = (c2 - c1) / (1 + 0.045 * c);
  const byHue =
    (2 * Math.sqrt(c1 * c2) * Math.sin((turn / 2) * DEGREE)) / (1 + 0.015 * c * hueWeight);
  const rotation = -2 * steep(c) * Math.sin(60 * DEGREE * Math.exp(-(((h - 275) / 25) ** 2)));
  return Math.sqrt(byLightness ** 2 + byChroma ** 2 + byHue ** 2 + rotation * byChroma * byHue);
}

/** The lowest distance of two colors for a vision. */
function nearest(colors: readonly string[], vision: keyof typeof VISIONS): number {
  const seen = colors.map(color => lab(times(VISIONS[vision], linear(color))));
  return Math.min(
    ...seen.flatMap((one, at) => seen.slice(at + 1).map(other => distance(one, other))),
  );
}

function contrast(one: string, other: string): number {
  const luminance = (hex: string): number =>
    times([0.2126, 0.7152, 0.0722, 0, 0, 0, 0, 0, 0], linear(hex))[0];
  const [dark = NaN, light = NaN] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

test('the distance is that of the published examples', () => {
  // From Sharma, Wu and Dalal 2005.
  const pairs: [one: Triple, other: Triple, expected: number][] = [
    [[50, 2.6772, -79.7751], [50, 0, -82.7485], 2.0425],
    [[50, -1, 2], [50, 0, 0], 2.3669],
    [[50, 2.49, -0.001], [50, -2.49, 0.0011], 7.2195],
    [[50, 2.5, 0], [73, 25, -18], 27.1492],
    [[60.2574, -34.0099, 36.2677], [60.4626, -34.1751, 39.4387], 1.2644],
    [[22.7233, 20.0904, -46.694], [23.0331, 14.973, -42.5619], 2.0373],
    [[90.8027, -2.0831, 1.441], [91.1528, -1.6435, 0.0447], 1.4441],
  ];
  for (const [one, other, expected] of pairs) expect(distance(one, other)).toBeCloseTo(expected, 3);
});

test.each(['light', 'dark'] as const)('people tell the colors of lines apart, %s', theme => {
  const colors = PALETTE.map(color => color[theme]);
  expect(nearest(colors, 'usual')).toBeGreaterThan(LEAST);
  expect(nearest(colors, 'protanopia')).toBeGreaterThan(LEAST);
  expect(nearest(colors, 'deuteranopia')).toBeGreaterThan(LEAST);
  expect(nearest(colors, 'tritanopia')).toBeGreaterThan(LEAST_OF_TRITANOPIA);
});

/** A color of the page. */
function pageColor(name: string, theme: 'light' | 'dark'): string {
  const [, light = '', dark = ''] =
    new RegExp(`--${name}: light-dark\\((#\\w{6}), (#\\w{6})\\)`).exec(styles) ?? [];
  return theme === 'light' ? light : dark;
}

test.each(['light', 'dark'] as const)(
  'the colors of lines stand out from the background, %s',
  theme => {
    for (const name of ['surface', 'surface-raised', 'page'])
      for (const color of PALETTE)
        expect(contrast(color[theme], pageColor(name, theme))).toBeGreaterThan(3);
  },
);

test.each(['light', 'dark'] as const)(
  'densities lead from the ground away in equal steps of lightness, for every vision, %s',
  theme => {
    const stops = [1, 2, 3, 4, 5].map(stop => pageColor(`density-${stop}`, theme));
    const sign = theme === 'light' ? -1 : 1;
    for (const vision of Object.values(VISIONS)) {
      const lightness = stops.map(color => lab(times(vision, linear(color)))[0]);
      const steps = lightness.slice(1).map((one, at) => sign * (one - lightness[at]!));
      expect(Math.min(...steps)).toBeGreaterThan(10);
      expect(Math.max(...steps)).toBeLessThan(25);
    }
    // The least is still seen.
    const [least, ground] = [stops[0]!, pageColor('surface', theme)].map(color =>
      lab(linear(color)),
    );
    expect(distance(least!, ground!)).toBeGreaterThan(LEAST);
  },
);

test('a density between two colors is a mix of both', () => {
  expect([0, 0.375, 1, 2].map(densityColor)).toEqual([
    'color-mix(in oklab, var(--density-2) 0%, var(--density-1))',
    'color-mix(in oklab, var(--density-3) 50%, var(--density-2))',
    'color-mix(in oklab, var(--density-5) 100%, var(--density-4))',
    'color-mix(in oklab, var(--density-5) 100%, var(--density-4))',
  ]);
});
