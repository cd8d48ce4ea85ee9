/** Ranges of axes, which leave some runs out. */
import type { ParamAxis } from './axes.ts';

export interface Brush {
  axis: string;
  low: number;
  high: number;
}

/** Brushes as they are in the URL, such as `param:lr=0.001..0.1`. */
export function parseBrush(text: string): Brush | undefined {
  const [, axis = '', low, high] = /^(.*)=(.*)\.\.(.*)$/s.exec(text) ?? [];
  return axis ? { axis, low: Number(low), high: Number(high) } : undefined;
}

export function brushText({ axis, low, high }: Brush): string {
  return `${axis}=${Number(low.toPrecision(6))}..${Number(high.toPrecision(6))}`;
}

export function insideOf(brushes: readonly Brush[], axes: readonly ParamAxis[], count: number): boolean[] {
  const checks = brushes.flatMap(brush => {
    const axis = axes.find(({ text }) => text === brush.axis);
    return axis ? [{ ...brush, values: axis.values }] : [];
  });
  return Array.from({ length: count }, (_, at) =>
    checks.every(({ values, low, high }) => (values[at] as number) >= low && (values[at] as number) <= high),
  );
}
