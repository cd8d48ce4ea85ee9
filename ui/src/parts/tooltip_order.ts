/** The order of the lines in a tooltip. */
import type { NearPoint } from '../plot/chart.ts';

function valueOf({ series, index }: NearPoint): number {
  return series.data.last[index] ?? NaN;
}

/**
 * The line next to the pointer first, and then the best ones; without a known goal, the lines from
 * above to below, as the chart has them. Values that are no numbers come last.
 */
export function tooltipOrder(
  points: readonly NearPoint[],
  isLower: boolean | undefined,
): readonly NearPoint[] {
  const [nearest, ...others] = points;
  if (!nearest) return points;
  const sign = isLower ? 1 : -1;
  const place = (point: NearPoint): number => {
    const value = valueOf(point);
    return Number.isNaN(value) ? Infinity : sign * value;
  };
  const isAfter = (a: number, b: number): number => (a === b ? 0 : a - b);
  return [nearest, ...others.sort((a, b) => isAfter(place(a), place(b)))];
}
