/** Drags of what is also clicked, or has no other use of the pointer. */

/** A shorter way is a click. */
const CLICK_PX = 4;

/**
 * Follows a pressed pointer until it is released, wherever it goes. `move` gets its way to the right in pixels; `end` is
 * told whether something was dropped, or the drag was canceled.
 */
export function followDrag(
  from: PointerEvent,
  move: (by: number) => void,
  end?: (isDropped: boolean) => void,
): void {
  const ended = new AbortController();
  let isDrag = false;
  const listen = (type: 'pointermove' | 'pointerup' | 'pointercancel', run: (by: number) => void): void =>
    addEventListener(type, to => to.pointerId === from.pointerId && run(to.clientX - from.clientX), {
      signal: ended.signal,
    });
  listen('pointermove', by => {
    isDrag ||= Math.abs(by) >= CLICK_PX;
    if (isDrag) move(by);
  });
  for (const type of ['pointerup', 'pointercancel'] as const) {
    listen(type, () => {
      ended.abort();
      if (!isDrag) return;
      end?.(type === 'pointerup');
      ignoreClick();
    });
  }
}

/** The click that ends a drag comes right after it, or not at all. */
function ignoreClick(): void {
  const ignored = new AbortController();
  const stop = (event: Event): void => (event.preventDefault(), event.stopPropagation());
  addEventListener('click', stop, { capture: true, signal: ignored.signal });
  setTimeout(() => ignored.abort());
}
