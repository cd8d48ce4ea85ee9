/** The x axis of a chart: what its reader has chosen, or what is stated for its metrics. */
import { xAxisOf } from '../format/goals.svelte.ts';
import type { ChartsState, PlacedAxis } from '../state/routes.ts';
import type { ChartLine } from './chart_groups.ts';

/** Settings of a chart whose x axis is known. */
export type PlacedSettings = ChartsState & { x: PlacedAxis };

/**
 * The settings of a chart with these lines. Without a choice, the x axis is the metric that is
 * stated for all metrics of the chart if a run has it, and steps otherwise.
 */
export function placedSettings(settings: ChartsState, lines: readonly ChartLine[]): PlacedSettings {
  const { x } = settings;
  if (x !== 'auto') return { ...settings, x };
  const [xm, ...others] = new Set(lines.map(({ info }) => xAxisOf(info.name)));
  const isStated = xm !== undefined && others.length === 0;
  const isLogged = lines.some(({ axis }) => axis !== undefined);
  return isStated && isLogged ? { ...settings, x: 'metric', xm } : { ...settings, x: 'step' };
}

/**
 * The metric that all charts of a page have as their x axis; empty: none. Undefined: each chart has
 * the metric that is stated for it.
 */
export function commonAxis({ x, xm }: Pick<ChartsState, 'x' | 'xm'>): string | undefined {
  if (x === 'auto') return undefined;
  return x === 'metric' ? xm : '';
}

/** Whether a chart has the x axis of its page, so that both are zoomed together. */
export function hasAxisOf(
  page: ChartsState,
  own: ChartsState,
  lines: readonly ChartLine[],
): boolean {
  const all = placedSettings(page, []);
  const one = placedSettings(own, lines);
  return one.x === all.x && (one.x !== 'metric' || one.xm === all.xm);
}
