/**
 * Colors of densities, from few to many values: equal steps of lightness, from the ground of the
 * theme away, so that twice the step is twice the difference to any eye.
 */
const STOPS = 5;

/** The color of a place between 0 and 1. It follows the theme. */
export function densityColor(place: number): string {
  const at = Math.min(Math.max(place, 0), 1) * (STOPS - 1);
  const stop = Math.min(Math.floor(at), STOPS - 2);
  const share = Math.round(100 * (at - stop));
  return `color-mix(in oklab, var(--density-${stop + 2}) ${share}%, var(--density-${stop + 1}))`;
}

/** The background of a legend with all colors from left to right. */
export const DENSITY_GRADIENT = `linear-gradient(90deg, ${Array.from({ length: STOPS }, (_, at) => `var(--density-${at + 1})`).join()})`;
