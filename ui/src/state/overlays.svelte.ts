/** The dialogs that exist on every page. */
export const overlays = $state({
  isPaletteOpen: false,
  isNewProjectOpen: false,
  /** Name of the metric whose goal is edited; undefined: none. */
  metric: undefined as string | undefined,
});
