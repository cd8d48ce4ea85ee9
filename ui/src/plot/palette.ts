/** Colors of lines: twelve that people with color-blindness can tell apart, for light and dark pages, with a contrast of 3:1. */
export interface PaletteColor {
  light: string;
  dark: string;
}

export const PALETTE: readonly PaletteColor[] = [
  { light: '#0b6bcb', dark: '#5aa9f8' },
  { light: '#c2410c', dark: '#fb923c' },
  { light: '#0f7b6c', dark: '#2dd4bf' },
  { light: '#b4257a', dark: '#f472b6' },
  { light: '#8a6a00', dark: '#facc15' },
  { light: '#6d3fc4', dark: '#b794f6' },
  { light: '#4d7c0f', dark: '#a3e635' },
  { light: '#b42318', dark: '#f87171' },
  { light: '#0e7490', dark: '#67e8f9' },
  { light: '#7c4a21', dark: '#d6a77a' },
  { light: '#475569', dark: '#cbd5e1' },
  { light: '#7e22ce', dark: '#e879f9' },
];

/** Shapes of lines, for series whose colors are equal. */
export const DASHES: readonly (readonly number[])[] = [
  [],
  [6, 3],
  [2, 3],
  [8, 3, 2, 3],
  [12, 4],
  [5, 2, 1, 2, 1, 2],
];

/** FNV-1a. */
export function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  // The lowest bits depend on the last characters only.
  return (value ^ (value >>> 15)) >>> 0;
}

/** The color of a run by itself, today and tomorrow: it depends on its id only. */
export function runColor(runId: string): PaletteColor {
  return PALETTE[hash(runId) % PALETTE.length] as PaletteColor;
}

/** Colors of runs that are shown together. While there are enough, the later one of two with the same gets a free one. */
export function runColors(runIds: readonly string[]): ReadonlyMap<string, PaletteColor> {
  const own = new Map(runIds.map(id => [id, runColor(id)]));
  const first = new Map([...own].reverse().map(([id, color]) => [color, id]));
  const free = PALETTE.filter(color => !first.has(color));
  const isOwn = (id: string, color: PaletteColor): boolean =>
    own.size > PALETTE.length || first.get(color) === id;
  return new Map([...own].map(([id, color]) => [id, isOwn(id, color) ? color : (free.shift() ?? color)]));
}

/** The color of the n-th series of a chart that shows one run. */
export function indexColor(index: number): PaletteColor {
  return PALETTE[index % PALETTE.length] as PaletteColor;
}
