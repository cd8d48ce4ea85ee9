/** Maps values to pixels, linear or logarithmic, and chooses ticks. */
import { tickLabels } from '../format/number.ts';
import { DAY, duration, HOUR, MINUTE, SECOND } from '../format/time.ts';
import { linearTicks, logTicks } from './ticks.ts';

/**
 * Meaning of the values: a number, a whole number, milliseconds of a duration, or milliseconds
 * since 1970.
 */
export type AxisKind = 'number' | 'step' | 'duration' | 'time';

export interface Extent {
  low: number;
  high: number;
}

/**
 * The part of an axis between two ends. Where an end is absent, the part ends with the values.
 * Undefined: no end was chosen, or the ends are in the wrong order.
 */
export function partOf(low?: number, high?: number): Partial<Extent> | undefined {
  if (low === undefined && high === undefined) return undefined;
  return low !== undefined && high !== undefined && low >= high ? undefined : { low, high };
}

export interface Tick {
  value: number;
  label: string;
}

export class Axis {
  readonly #slope: number;
  readonly #offset: number;

  constructor(
    readonly extent: Extent,
    readonly from: number,
    readonly to: number,
    readonly isLog: boolean,
    readonly kind: AxisKind = 'number',
  ) {
    const low = this.#inner(extent.low);
    const high = this.#inner(extent.high);
    this.#slope = (to - from) / (high - low || 1);
    this.#offset = from - low * this.#slope;
  }

  /** NaN for values that have no place on the axis, such as zero on a logarithmic axis. */
  toPixel(value: number): number {
    return this.#inner(value) * this.#slope + this.#offset;
  }

  toValue(pixel: number): number {
    const inner = (pixel - this.#offset) / this.#slope;
    return this.isLog ? 10 ** inner : inner;
  }

  ticks(count: number): Tick[] {
    const { low, high } = this.extent;
    if (this.kind === 'time') return timeTicks(low, high, count);
    const chosen = this.isLog ? logTicks : this.kind === 'duration' ? durationTicks : linearTicks;
    const all = chosen(low, high, count);
    const values = this.kind === 'step' ? all.filter(Number.isInteger) : all;
    const labels = this.kind === 'duration' ? values.map(durationLabel) : tickLabels(values);
    return values.map((value, at) => ({ value, label: labels[at] as string }));
  }

  #inner(value: number): number {
    if (!this.isLog) return value;
    return value > 0 ? Math.log10(value) : NaN;
  }
}

function durationLabel(ms: number): string {
  return ms === 0 ? '0' : duration(ms).replace(/ 00? (s|min|h)$/, '');
}

/** Durations are counted in units of 60 and 24. */
function durationTicks(low: number, high: number, count: number): number[] {
  const unit = [DAY, HOUR, MINUTE, SECOND].find(unit => high - low >= 2 * unit) ?? 1;
  return linearTicks(low / unit, high / unit, count).map(tick => tick * unit);
}

/** Distances between ticks of times. */
const TIME_GAPS = [
  ...[1, 10, 100, 500],
  ...[1, 2, 5, 15, 30].map(count => count * SECOND),
  ...[1, 2, 5, 15, 30].map(count => count * MINUTE),
  ...[1, 2, 3, 6, 12].map(count => count * HOUR),
  ...[1, 2, 7, 14, 30, 91, 182, 365].map(count => count * DAY),
];
const TIME_FORMATS: [gap: number, format: Intl.DateTimeFormat][] = [
  [DAY, new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' })],
  [MINUTE, new Intl.DateTimeFormat(undefined, { timeStyle: 'short' })],
  [SECOND, new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' })],
  [0, new Intl.DateTimeFormat(undefined, { second: 'numeric', fractionalSecondDigits: 3 })],
];

/** Round times of the reader's zone at the start of the range. */
function timeTicks(low: number, high: number, count: number): Tick[] {
  const gap = TIME_GAPS.find(gap => (high - low) / gap <= count) ?? (high - low) / count;
  const zone = new Date(low).getTimezoneOffset() * MINUTE;
  const format = TIME_FORMATS.find(([least]) => gap >= least)?.[1];
  const ticks: Tick[] = [];
  for (let value = Math.ceil((low - zone) / gap) * gap + zone; value <= high; value += gap) {
    ticks.push({ value, label: format?.format(value) ?? '' });
  }
  return ticks;
}

/**
 * The extent with the ends that the reader chose. A logarithmic axis has no end at zero or below,
 * and two ends in the wrong order are ignored. A single end holds even if all values are beyond it.
 */
export function withEnds(all: Extent, chosen: Partial<Extent>, isLog: boolean): Extent {
  const [low, high] = [chosen.low, chosen.high].map(end =>
    end !== undefined && isLog && end <= 0 ? undefined : end,
  );
  if (low !== undefined && high !== undefined) return low < high ? { low, high } : all;
  if (low !== undefined)
    return { low, high: all.high > low ? all.high : padded({ low, high: low }, isLog).high };
  if (high !== undefined)
    return { low: all.low < high ? all.low : padded({ low: high, high }, isLog).low, high };
  return all;
}

/** Adds some air, so that no line touches the frame. A single value gets a range around it. */
export function padded({ low, high }: Extent, isLog: boolean): Extent {
  if (low > high) return isLog ? { low: 0.1, high: 10 } : { low: 0, high: 1 };
  if (isLog) {
    const factor = low === high ? 2 : (high / low) ** 0.05;
    return { low: low / factor, high: high * factor };
  }
  const air = low === high ? Math.abs(low) * 0.1 || 1 : (high - low) * 0.05;
  return { low: low - air, high: high + air };
}
