/** Space between a popover and its button, and the edges of the window. */
const GAP_PX = 4;

/** Moves an open popover below its button or a place, or above if there is no room below. */
export function placeAt(popover: HTMLElement, from: DOMRect): void {
  const size = popover.getBoundingClientRect();
  const lastLeft = innerWidth - size.width - GAP_PX;
  popover.style.left = `${Math.max(GAP_PX, Math.min(from.left, lastLeft))}px`;
  const below = from.bottom + GAP_PX;
  const above = Math.max(GAP_PX, from.top - GAP_PX - size.height);
  popover.style.top = `${below + size.height < innerHeight ? below : above}px`;
}
