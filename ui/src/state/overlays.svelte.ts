/** The dialogs that exist on every page. */
export const overlays = $state({ isPaletteOpen: false, isNewProjectOpen: false });
