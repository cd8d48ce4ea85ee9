/** A shorter move is a click. */
export const CLICK_PX = 4;

/**
 * Follows a pressed pointer until it is dropped, wherever it goes. `move` gets the distances to
 * the right and down, in pixels.
 */
export function followDrag(
  from: PointerEvent,
  move: (by: number, down: number) => void,
  drop?: () => void,
): void {
  const ended = new AbortController();
  let isDrag = false;
  const listen = (
    type: 'pointermove' | 'pointerup' | 'pointercancel',
    run: (by: number, down: number) => void,
  ): void =>
    addEventListener(
      type,
      to =>
        to.pointerId === from.pointerId &&
        run(to.clientX - from.clientX, to.clientY - from.clientY),
      {
        signal: ended.signal,
      },
    );
  const end = (by: number, down: number): void => {
    ended.abort();
    if (!isDrag) return;
    move(by, down);
    drop?.();
    ignoreClick();
  };
  listen('pointermove', (by, down) => {
    isDrag ||= Math.hypot(by, down) >= CLICK_PX;
    if (isDrag) move(by, down);
  });
  listen('pointerup', end);
  listen('pointercancel', () => end(0, 0));
}

/** The click that ends a drag comes right after it, or not at all. */
function ignoreClick(): void {
  const ignored = new AbortController();
  const stop = (event: Event): void => {
    event.preventDefault();
    event.stopPropagation();
  };
  addEventListener('click', stop, { capture: true, signal: ignored.signal });
  setTimeout(() => ignored.abort());
}
