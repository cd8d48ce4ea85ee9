/** A dashboard as the server keeps it: its panels in their order, and a filter for all of them. */
import type { CborValue } from '../api/cbor.ts';
import type { CborState } from '../api/cbor_writer.ts';
import { bothQueries } from '../query/conditions.ts';
import { panelFrom, panelState, type Panel } from './panels.ts';

export interface DashboardState {
  panels: readonly Panel[];
  /** Runs that every panel is limited to. */
  query: string;
}

export function dashboardOf(state: { [key: string]: CborValue } | undefined): DashboardState {
  const { panels, query } = state ?? {};
  return {
    panels: Array.isArray(panels) ? panels.map(panelFrom) : [],
    query: typeof query === 'string' ? query : '',
  };
}

export function dashboardState({ panels, query }: DashboardState): {
  panels: CborState[];
  query: string;
} {
  return { panels: panels.map(panelState), query };
}

/** A panel as the dashboard shows it. */
export function filtered(panel: Panel, query: string): Panel {
  return query === '' ? panel : { ...panel, query: bothQueries(query, panel.query) };
}
