/** Colors of lines: twelve that people with color-blindness tell apart, found by a search; the tests have the limits. */
export interface PaletteColor {
  light: string;
  dark: string;
}

export const PALETTE: readonly PaletteColor[] = [
  { light: '#3c7fe8', dark: '#377ef1' },
  { light: '#cf7a02', dark: '#e98002' },
  { light: '#0e874e', dark: '#5ce2af' },
  { light: '#9d2784', dark: '#cd53af' },
  { light: '#876900', dark: '#e6ce30' },
  { light: '#6b44cd', dark: '#ce96ff' },
  { light: '#e3485f', dark: '#ec4e52' },
  { light: '#0f9599', dark: '#50bcbb' },
  { light: '#585d62', dark: '#c5ceed' },
  { light: '#694d3d', dark: '#b19c83' },
  { light: '#455100', dark: '#99c671' },
  { light: '#bc5f86', dark: '#de81a4' },
];

/** Shapes of lines, for series whose colors are equal. */
export const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [12, 4], [5, 2, 1, 2, 1, 2]] as const;

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

/** Colors of runs that are shown together. The later one of two with the same gets a free one, or the next in turn. */
export function runColors(runIds: readonly string[]): ReadonlyMap<string, PaletteColor> {
  const own = new Map(runIds.map(id => [id, runColor(id)]));
  const first = new Map([...own].reverse().map(([id, color]) => [color, id]));
  const free = PALETTE.filter(color => !first.has(color));
  let next = 0;
  const other = (): PaletteColor => free.shift() ?? indexColor(next++);
  return new Map([...own].map(([id, color]) => [id, first.get(color) === id ? color : other()]));
}

/** The color of the n-th series of a chart that shows one run. */
export function indexColor(index: number): PaletteColor {
  return PALETTE[index % PALETTE.length] as PaletteColor;
}
