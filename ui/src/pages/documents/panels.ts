/**
 * Panels of dashboards and reports: a chart of one metric, or a table of runs, for the newest runs
 * of a query.
 */
import { isMap, type CborValue } from '../../api/cbor.ts';

export type Panel = {
  kind: 'chart' | 'runs';
  metric: string;
  query: string;
  /** A column by which the runs of a chart are grouped, such as `param:lr`; empty: none. */
  by: string;
  width: number;
};

export const COLUMNS = 6;
export const NEW_PANEL: Panel = { kind: 'chart', metric: 'loss', query: '', by: '', width: 3 };

/** Reads a panel. Fields that are unknown or missing get the values of a new panel. */
export function panelFrom(value: CborValue | undefined): Panel {
  const stored = isMap(value) ? value : {};
  const text = (name: string): string => (typeof stored[name] === 'string' ? stored[name] : '');
  const width = Math.round(Number(stored.width)) || NEW_PANEL.width;
  return {
    kind: text('kind') === 'runs' ? 'runs' : 'chart',
    metric: text('metric'),
    query: text('query'),
    by: text('by'),
    width: Math.min(Math.max(width, 1), COLUMNS),
  };
}

/** A panel in a report: lines such as `metric: loss`. */
export function parsePanel(kind: string, text: string): Panel {
  const fields = text.split('\n').map(line => line.split(/:(.*)/s).map(part => part.trim()));
  return panelFrom({ ...Object.fromEntries(fields), kind });
}

export function moved<T>(all: readonly T[], from: number, to: number): T[] {
  const others = all.filter((_, at) => at !== from);
  const one = all[from];
  return one === undefined
    ? [...all]
    : others.toSpliced(Math.min(Math.max(to, 0), others.length), 0, one);
}
