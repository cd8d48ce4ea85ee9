/**
 * Colors of a chart, from the page: a canvas and a frame know neither its variables nor
 * `light-dark()`.
 */
export interface ChartTheme {
  text: string;
  grid: string;
  frame: string;
}

/** The computed colors of an element with the class `chart-colors`. */
export function chartTheme(element: Element | undefined): ChartTheme {
  if (!element) return { text: 'gray', grid: 'gray', frame: 'gray' };
  const { color, borderTopColor, outlineColor } = getComputedStyle(element);
  return { text: color, grid: borderTopColor, frame: outlineColor };
}
