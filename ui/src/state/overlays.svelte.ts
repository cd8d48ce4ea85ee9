/** The two dialogs that exist on every page. */
let palette = $state(false);
let help = $state(false);

export const overlays = {
  get isPaletteOpen(): boolean {
    return palette;
  },
  set isPaletteOpen(isOpen: boolean) {
    palette = isOpen;
  },
  get isHelpOpen(): boolean {
    return help;
  },
  set isHelpOpen(isOpen: boolean) {
    help = isOpen;
  },
  openPalette(): void {
    palette = true;
  },
  openHelp(): void {
    help = true;
  },
};
