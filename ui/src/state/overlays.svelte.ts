/** The dialog that exists on every page. */
export const overlays = $state({ isPaletteOpen: false });
