/** Ranges of axes, which leave some runs out. */
import type { Extent } from '../../plot/axis.ts';
import type { ParamAxis } from './axes.ts';

export interface Brush {
  axis: string;
  low: number;
  high: number;
}

/** Brushes as they are in the URL, such as `param:lr=0.001..0.1`. */
export function parseBrush(text: string): Brush | undefined {
  const [, axis = '', ...ends] = /^(.*)=(.*)\.\.(.*)$/s.exec(text) ?? [];
  const [low = NaN, high = NaN] = ends.map(end => (end.trim() === '' ? NaN : Number(end)));
  const isRange = axis !== '' && !Number.isNaN(low) && !Number.isNaN(high);
  return isRange ? { axis, low, high } : undefined;
}

export function brushText({ axis, low, high }: Brush): string {
  return `${axis}=${Number(low.toPrecision(6))}..${Number(high.toPrecision(6))}`;
}

/** Ends of axes, written like brushes. An axis has two different ends. */
export function limitsOf(texts: readonly string[]): Map<string, Extent> {
  const all = texts.flatMap(text => parseBrush(text) ?? []);
  const isRange = ({ low, high }: Brush): boolean =>
    Number.isFinite(low) && Number.isFinite(high) && low < high;
  return new Map(all.filter(isRange).map(({ axis, low, high }) => [axis, { low, high }]));
}

/** Axes that are logarithmic or linear by choice, such as `param:lr=log`. */
export function logsOf(texts: readonly string[]): Map<string, boolean> {
  return new Map(
    texts.flatMap(text => {
      const [, axis, kind] = /^(.+)=(log|linear)$/s.exec(text) ?? [];
      return axis ? [[axis, kind === 'log'] as const] : [];
    }),
  );
}

export function logTexts(logs: Iterable<readonly [axis: string, isLog: boolean]>): string[] {
  return [...logs].map(([axis, isLog]) => `${axis}=${isLog ? 'log' : 'linear'}`);
}

export function insideOf(
  brushes: readonly Brush[],
  axes: readonly ParamAxis[],
  count: number,
): boolean[] {
  const checks = brushes.flatMap(brush => {
    const axis = axes.find(({ text }) => text === brush.axis);
    return axis ? [{ ...brush, values: axis.values }] : [];
  });
  return Array.from({ length: count }, (_, at) =>
    checks.every(
      ({ values, low, high }) => (values[at] as number) >= low && (values[at] as number) <= high,
    ),
  );
}
