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
 * Places in the palette of some runs, the oldest run first. `groups` has the runs that are shown
 * together, such as the runs of each panel; by default, all are.
 *
 * Chosen places stay, and so do `known` places, unless two runs of a group share one. Every other
 * run gets its own place, or the most distinct free place if an older run of its groups has taken
 * it; without a free place, runs share places evenly. So a newer run never changes the place of an
 * older run, and neither the order of the groups nor the order of their runs matters.
 */
export function placeColors(
  runIds: readonly string[],
  known: ReadonlyMap<string, number>,
  chosen: ReadonlyMap<string, number>,
  groups: readonly (readonly string[])[] = [runIds],
): Map<string, number> {
  const places = new Map<string, number>();
  /** How often each place is used in each group of a run. */
  const usesOf = new Map<string, number[][]>(runIds.map(id => [id, []]));
  for (const ids of groups) {
    const uses = PALETTE.map(() => 0);
    for (const id of new Set(ids)) usesOf.get(id)?.push(uses);
  }
  const usesNear = (id: string): number[] =>
    PALETTE.map((_, place) =>
      (usesOf.get(id) ?? []).reduce((sum, uses) => sum + (uses[place] ?? 0), 0),
    );
  const give = (id: string, place: number): void => {
    places.set(id, place);
    for (const uses of usesOf.get(id) ?? []) uses[place] = (uses[place] ?? 0) + 1;
  };
  for (const id of runIds) {
    const place = chosen.get(id);
    if (place !== undefined) give(id, place);
  }
  for (const id of runIds) {
    const place = places.has(id) ? undefined : known.get(id);
    if (place !== undefined && !usesNear(id)[place]) give(id, place);
  }
  for (const id of runIds) {
    if (places.has(id)) continue;
    const uses = usesNear(id);
    const least = Math.min(...uses);
    const own = ownPlace(id);
    const found = uses[own] === least ? own : uses.indexOf(least);
    give(id, (least > 0 ? known.get(id) : undefined) ?? found);
  }
  return places;
}

/** The color of the n-th series of a chart that shows one run. */
export function indexColor(index: number): PaletteColor {
  return PALETTE[index % PALETTE.length] as PaletteColor;
}
