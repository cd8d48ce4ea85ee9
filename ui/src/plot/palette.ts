/**
 * Colors of lines: twelve colors that people with color-blindness can distinguish, found by a
 * search; the tests have the limits.
 */
export interface PaletteColor {
  /** A name to choose the color by. */
  title: string;
  light: string;
  dark: string;
}

export const PALETTE: readonly PaletteColor[] = [
  { title: 'Blue', light: '#3c7fe8', dark: '#377ef1' },
  { title: 'Orange', light: '#cf7a02', dark: '#e98002' },
  { title: 'Green', light: '#0e874e', dark: '#5ce2af' },
  { title: 'Purple', light: '#9d2784', dark: '#cd53af' },
  { title: 'Yellow', light: '#876900', dark: '#e6ce30' },
  { title: 'Violet', light: '#6b44cd', dark: '#ce96ff' },
  { title: 'Red', light: '#e3485f', dark: '#ec4e52' },
  { title: 'Teal', light: '#0f9599', dark: '#50bcbb' },
  { title: 'Gray', light: '#585d62', dark: '#c5ceed' },
  { title: 'Brown', light: '#694d3d', dark: '#b19c83' },
  { title: 'Olive', light: '#455100', dark: '#99c671' },
  { title: 'Pink', light: '#bc5f86', dark: '#de81a4' },
];

/** The color as the styles of the page have it, which follows the theme. */
export function cssColor({ light, dark }: PaletteColor): string {
  return `light-dark(${light}, ${dark})`;
}

/** Shapes of lines, for series whose colors are equal. */
export const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [12, 4], [5, 2, 1, 2, 1, 2]] as const;

/** FNV-1a. */
export function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++)
    value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  // The lowest bits depend on the last characters only.
  return (value ^ (value >>> 15)) >>> 0;
}

/** Colors that runs get by themselves. The others are less distinct, and are for crowded charts. */
const DISTINCT = 8;

/** The place in the palette that a run has by itself, today and tomorrow: it depends on its id only. */
export function ownPlace(runId: string): number {
  return hash(runId) % DISTINCT;
}

/**
 * Places in the palette of runs that are shown together, the first run first. Chosen places stay,
 * and so do the `known` places of runs that were shown before, unless two of these runs share one.
 * A run that lost its place gets the most distinct free place; without any, runs share places
 * evenly.
 */
export function placeColors(
  runIds: readonly string[],
  known: ReadonlyMap<string, number>,
  chosen: ReadonlyMap<string, number>,
): Map<string, number> {
  const places = new Map<string, number>();
  const uses = PALETTE.map(() => 0);
  const give = (id: string, place: number): void => {
    places.set(id, place);
    uses[place] = (uses[place] ?? 0) + 1;
  };
  const keep = (placeOf: (id: string) => number | undefined): void => {
    for (const id of runIds) {
      const place = places.has(id) ? undefined : placeOf(id);
      if (place !== undefined && !uses[place]) give(id, place);
    }
  };
  for (const id of runIds) {
    const place = chosen.get(id);
    if (place !== undefined) give(id, place);
  }
  keep(id => known.get(id));
  keep(ownPlace);
  for (const id of runIds) {
    if (places.has(id)) continue;
    const least = Math.min(...uses);
    give(id, (least > 0 ? known.get(id) : undefined) ?? uses.indexOf(least));
  }
  return places;
}

/** The color of the n-th series of a chart that shows one run. */
export function indexColor(index: number): PaletteColor {
  return PALETTE[index % PALETTE.length] as PaletteColor;
}
