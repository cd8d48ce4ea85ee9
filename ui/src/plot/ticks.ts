/** Round numbers for the ticks of an axis. */

/**
 * About `count` multiples of 1, 2 or 5 times a power of ten, from the lowest to the highest in a
 * range.
 */
export function linearTicks(low: number, high: number, count: number): number[] {
  const gap = (high - low) / count;
  if (!(gap > 0 && gap < Infinity)) return low === high && count > 0 ? [low] : [];
  const power = Math.floor(Math.log10(gap));
  const ratio = gap / 10 ** power;
  // The limits are the geometric means of neighbors.
  const factor =
    ratio >= Math.sqrt(50) ? 10 : ratio >= Math.sqrt(10) ? 5 : ratio >= Math.SQRT2 ? 2 : 1;
  // Divided by a power of ten, each is the number that is closest to its decimals.
  const valueAt = (at: number): number =>
    power < 0 ? (at * factor) / 10 ** -power : at * factor * 10 ** power;
  let [first, last] = [low, high].map(end => Math.round(end / valueAt(1))) as [number, number];
  if (valueAt(first) < low) first += 1;
  if (valueAt(last) > high) last -= 1;
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => valueAt(first + at));
}

/**
 * Powers of ten; also twice and five times as much if there is room, and linear ticks in less than
 * a decade.
 */
export function logTicks(low: number, high: number, count: number): number[] {
  const decades = Math.log10(high) - Math.log10(low);
  if (!(decades >= 1)) return linearTicks(low, high, count);
  const first = Math.floor(Math.log10(low));
  const powers = Array.from({ length: Math.ceil(decades) + 2 }, (_, at) => first + at);
  const within = (factors: number[]): number[] =>
    powers
      .flatMap(power => factors.map(factor => Number(`${factor}e${power}`)))
      .filter(tick => tick >= low && tick <= high);
  if (decades <= 2) return within([1, 2, 5]);
  const all = within([1]);
  const step = Math.ceil(all.length / Math.max(count, 1));
  return all.filter((_, at) => at % step === 0);
}
