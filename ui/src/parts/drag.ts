/** A shorter move is a click. */
const CLICK_PX = 4;

/**
 * Follows a pressed pointer until it is dropped, wherever it goes. `move` gets the distance to the
 * right, in pixels.
 */
export function followDrag(
  from: PointerEvent,
  move: (by: number) => void,
  drop?: () => void,
): void {
  const ended = new AbortController();
  let isDrag = false;
  const listen = (
    type: 'pointermove' | 'pointerup' | 'pointercancel',
    run: (by: number) => void,
  ): void =>
    addEventListener(
      type,
      to => to.pointerId === from.pointerId && run(to.clientX - from.clientX),
      {
        signal: ended.signal,
      },
    );
  const end = (by: number): void => {
    ended.abort();
    if (!isDrag) return;
    move(by);
    drop?.();
    ignoreClick();
  };
  listen('pointermove', by => {
    isDrag ||= Math.abs(by) >= CLICK_PX;
    if (isDrag) move(by);
  });
  listen('pointerup', end);
  listen('pointercancel', () => end(0));
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
