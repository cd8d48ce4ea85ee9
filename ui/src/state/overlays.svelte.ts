import type { Panel } from '../panels/panels.ts';

export interface LargePanel {
  panel: Panel;
  /** Gives its settings to the chart that was opened; absent: they can only be kept elsewhere. */
  onuse?: (panel: Panel) => void;
  /** Gives the chart the settings of its page again; absent: it has them. */
  onreset?: (() => void) | undefined;
}

/** The dialogs that exist on every page. */
export const overlays = $state({
  isPaletteOpen: false,
  isNewProjectOpen: false,
  /** Name of the metric whose goal is edited; undefined: none. */
  metric: undefined as string | undefined,
  /** The panel that is shown large; undefined: none. */
  panel: undefined as LargePanel | undefined,
});
