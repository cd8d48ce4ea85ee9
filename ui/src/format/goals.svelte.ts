/**
 * The meaning of the metrics of the project: which values are better, which value stands for a run,
 * and how values are written. Where nothing is stated, the name of a metric is a guess. Goals are
 * state, so whatever shows a metric follows them.
 */
import type { SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { guessIsLower, isBenchmark, isHeldOut, isOfMachine } from './importance.ts';
import { aligned, readable } from './number.ts';

export interface MetricGoal {
  name: string;
  /** Whether lower values are better; undefined: nothing is stated. */
  isLower: boolean | undefined;
  /** Whether the best value stands for a run, instead of the last one; undefined: not stated. */
  isBest: boolean | undefined;
  format: 'percent' | 'scientific' | 'integer' | undefined;
  unit: string;
  /** The metric that is the x axis of charts whose reader has chosen none; empty: none is stated. */
  xAxis: string;
  isPrimary: boolean;
  updatedUs: bigint;
}

let stated = $state.raw<ReadonlyMap<string, MetricGoal>>(new Map());

export function statedGoals(): ReadonlyMap<string, MetricGoal> {
  return stated;
}

export function setGoals(goals: Iterable<MetricGoal>): void {
  stated = new Map([...goals].map(goal => [goal.name, goal]));
}

/** The goal of a metric as far as it is stated. */
export function goalOf(name: string): MetricGoal | undefined {
  return stated.get(name);
}

/** The metric that is stated as the x axis of a metric. */
export function xAxisOf(name: string): string | undefined {
  return stated.get(name)?.xAxis || undefined;
}

/** A text that changes with the stated x axes, and not with other goals. */
export function statedAxesText(): string {
  return JSON.stringify(
    [...stated.values()].flatMap(({ name, xAxis }) => (xAxis ? [[name, xAxis]] : [])),
  );
}

/** Whether lower values of a metric are better; undefined if neither a goal nor the name says so. */
export function isLowerBetter(name: string): boolean | undefined {
  return stated.get(name)?.isLower ?? guessIsLower(name);
}

/** The part of a series that stands for its run. Without a direction there is no best value. */
export function summaryPart(name: string): 'last' | 'min' | 'max' {
  const isLower = isLowerBetter(name);
  if (!stated.get(name)?.isBest || isLower === undefined) return 'last';
  return isLower ? 'min' : 'max';
}

type SeriesValues = Pick<SeriesInfo, 'name' | 'last' | 'min' | 'max'>;

/** The value of a series that stands for its run. */
export function summaryOf(series: SeriesValues): number | undefined {
  return series[summaryPart(series.name)];
}

/** The most important metric first. */
export function byImportance<T extends { name: string; context: string }>(
  series: readonly T[],
): T[] {
  const rank = ({ name, context }: T): number => importance(name, context);
  return series.toSorted((a, b) => rank(b) - rank(a));
}

/** More than any guess. */
const PRIMARY = 10;

/** Metrics with a higher importance are shown earlier. A stated goal counts more than a guess from the name. */
export function importance(name: string, context = ''): number {
  const goal = stated.get(name);
  return (
    guessed(name, context) + (goal?.isLower === undefined ? 0 : 1) + (goal?.isPrimary ? PRIMARY : 0)
  );
}

/** Metrics of the machine are below zero. */
function guessed(name: string, context: string): number {
  const isResult = isLowerBetter(name) !== undefined;
  // Right after the loss on the same data.
  const result = isBenchmark(name) ? 1.5 : 2;
  if (isHeldOut(name, context)) return isResult ? result + 1 : 1;
  if (isResult) return result;
  if (isOfMachine(name)) return -1;
  return name.includes('/') ? 0 : 1;
}

/** Digits of a number with an exponent. */
const SCIENTIFIC_DIGITS = 3;

/** A value of a metric as the project wants it; in a column, numbers line up. */
export function metricNumber(name: string, value: number, isAligned = false): string {
  const { format, unit = '' } = stated.get(name) ?? {};
  const usual = isAligned ? aligned : readable;
  if (!Number.isFinite(value)) return readable(value);
  const texts = {
    // The factor leaves no digits that the value does not have.
    percent: () => `${usual(Number((100 * value).toPrecision(12)))}\u202f%`,
    scientific: () => exponential(value),
    integer: () => readable(Math.round(value)),
    plain: () => usual(value),
  };
  const text = texts[format ?? 'plain']();
  const isTwice = format === 'percent' && unit === '%';
  return unit === '' || isTwice ? text : `${text}\u202f${unit}`;
}

/** Digits of a bound. */
const BOUND_DIGITS = 3;

/** The lowest or the highest value next to another one: short, but as a percentage if that is one. */
export function metricBound(name: string, value: number): string {
  return stated.get(name)?.format === 'percent'
    ? metricNumber(name, value)
    : readable(value, BOUND_DIGITS);
}

function exponential(value: number): string {
  return value.toExponential(SCIENTIFIC_DIGITS).replace('e+', 'e').replaceAll('-', '−');
}

const PART_TITLES = { last: 'last', min: 'lowest', max: 'highest' } as const;

/** The title of the part of a series that stands for its run. */
export function summaryTitle(name: string): string {
  return PART_TITLES[summaryPart(name)];
}
