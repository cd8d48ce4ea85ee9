/** The parts of the axes that some series take. */
import type { Axis, Extent } from './axis.ts';
import { isAscending, visible, type ChartSeries } from './lines.ts';

/**
 * Extent of x over all series; empty without points. Steps start at the start of the first bucket,
 * which is drawn at its end.
 */
export function xExtent(all: readonly ChartSeries[], isLog = false): Extent {
  const extent = { low: Infinity, high: -Infinity };
  for (const { x, data } of all) {
    if (x.length === 0) continue;
    // On a logarithmic axis, the first bucket would take decades.
    const { width } = x === data.steps && !isLog ? data : { width: 0 };
    const first = width > 1 ? Math.floor((x[0] as number) / width) * width : (x[0] as number);
    const ends = isAscending(x) ? [first, x.at(-1) as number] : x;
    for (const end of ends) {
      if (Number.isNaN(end)) continue;
      extent.low = Math.min(extent.low, end);
      extent.high = Math.max(extent.high, end);
    }
  }
  return extent;
}

/**
 * Extent of the finite values in view, on a logarithmic axis above zero; without outliers, near
 * their middle nine tenths.
 */
export function yExtent(
  all: readonly ChartSeries[],
  x: Axis,
  isLog: boolean,
  withoutOutliers = false,
): Extent {
  const extent = { low: Infinity, high: -Infinity };
  const values: number[] = [];
  for (const series of all) {
    const { x: places, data, area, isMember, smooth } = series;
    const [from, to] = visible(series, x);
    for (let index = from; index < to; index++) {
      const at = places[index] as number;
      if (!(at >= x.extent.low && at <= x.extent.high)) continue;
      const isWide = area && !Number.isNaN(area.low[index]);
      const [least, most] = isWide
        ? [area.low[index] as number, area.high[index] as number]
        : [data.min[index] as number, data.max[index] as number];
      // In a zoom, a smoothed line that is late may be far from all values.
      const late = smooth?.[index] ?? NaN;
      const low = late < least ? late : least;
      const high = late > most ? late : most;
      if (withoutOutliers && !isMember && Number.isFinite(low)) values.push(low, high);
      if (high > extent.high && (!isLog || high > 0)) extent.high = high;
      if (low < extent.low && (!isLog || low > 0)) extent.low = low;
      else if (isLog && low <= 0 && high > 0 && high < extent.low) extent.low = high;
    }
  }
  return values.length > 0 ? withoutTails(extent, values, isLog) : extent;
}

const TAIL = 0.05;

function withoutTails(extent: Extent, values: readonly number[], isLog: boolean): Extent {
  const order = Float64Array.from(values, value => (isLog ? Math.log(value) : value))
    .filter(Number.isFinite)
    .sort();
  const [low, high] = [TAIL, 1 - TAIL].map(
    share => order[Math.floor(share * (order.length - 1))] ?? NaN,
  );
  if (low === undefined || high === undefined || !(low < high)) return extent;
  const back = (value: number): number => (isLog ? Math.exp(value) : value);
  return {
    low: Math.max(extent.low, back(low - (high - low))),
    high: Math.min(extent.high, back(high + (high - low))),
  };
}
