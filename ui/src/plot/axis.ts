/** Maps values to pixels, linear or logarithmic, and chooses ticks. */
import { scaleLinear, scaleLog } from 'd3-scale';

import { tickLabels } from '../format/number.ts';
import { DAY, duration, HOUR, MINUTE, SECOND } from '../format/time.ts';

/** Meaning of the values: a number, a whole number, milliseconds of a duration, or milliseconds since 1970. */
export type AxisKind = 'number' | 'step' | 'duration' | 'time';

export interface Extent {
  low: number;
  high: number;
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

  /** NaN for values that have no place on the axis, as zero on a logarithmic one. */
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
    const all = this.isLog ? logTicks(low, high, count) : linearTicks(low, high, count, this.kind);
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

function linearTicks(low: number, high: number, count: number, kind: AxisKind): number[] {
  if (kind !== 'duration') return scaleLinear([low, high], [0, 1]).ticks(count);
  // Durations are counted in units of 60 and 24.
  const unit = [DAY, HOUR, MINUTE, SECOND].find(unit => high - low >= 2 * unit) ?? 1;
  return scaleLinear([low / unit, high / unit], [0, 1])
    .ticks(count)
    .map(tick => tick * unit);
}

/** Powers of ten; also their multiples if there is room, and linear ticks if there is no power of ten in view. */
function logTicks(low: number, high: number, count: number): number[] {
  const decades = Math.log10(high / low);
  if (decades < 1) return linearTicks(low, high, count, 'number');
  const ticks = scaleLog([low, high], [0, 1]).ticks();
  const powers = ticks.filter(tick => Math.abs(Math.log10(tick) - Math.round(Math.log10(tick))) < 1e-9);
  if (decades <= 2) return ticks.filter(tick => /^[125]/.test(tick.toExponential()));
  const step = Math.ceil(powers.length / Math.max(count, 1));
  return powers.filter((_, at) => at % step === 0);
}

/** Distances between ticks of times. d3-scale has them too, but its format of dates is a fifth of the code of a chart. */
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

/** Round times of the reader's zone at the beginning of the range. */
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
