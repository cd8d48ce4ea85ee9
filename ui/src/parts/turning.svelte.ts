/** How something in space is looked at: it is turned by dragging and by keys, and zoomed by keys and the wheel. */
import { ARROWS, hasModifier } from './local_keys.ts';
import { FIRST_VIEW } from './point_cloud.ts';

const KEY_TURN = 0.15;
const DRAG_TURN = 0.01;
const ZOOM = 1.25;
const ZOOMS = { low: 0.2, high: 50 };

export class Turning {
  view = $state.raw(FIRST_VIEW);

  #turn(by: number, up: number): void {
    const tilt = Math.min(Math.PI / 2, Math.max(-Math.PI / 2, this.view.tilt + up));
    this.view = { ...this.view, turn: this.view.turn + by, tilt };
  }

  #zoom(factor: number): void {
    const zoom = Math.min(ZOOMS.high, Math.max(ZOOMS.low, this.view.zoom * factor));
    this.view = { ...this.view, zoom };
  }

  begin = (event: PointerEvent): void => {
    const plot = event.currentTarget as HTMLElement;
    plot.setPointerCapture(event.pointerId);
    plot.focus();
  };

  drag = (event: PointerEvent): void => {
    if (event.buttons === 1) this.#turn(event.movementX * DRAG_TURN, event.movementY * DRAG_TURN);
  };

  /** A page is scrolled over a plot that has no focus. */
  wheel = (event: WheelEvent): void => {
    if (document.activeElement !== event.currentTarget || event.deltaY === 0) return;
    event.preventDefault();
    this.#zoom(event.deltaY < 0 ? ZOOM : 1 / ZOOM);
  };

  press = (event: KeyboardEvent): void => {
    if (hasModifier(event)) return;
    const { key } = event;
    const by = ARROWS[key];
    if (by) this.#turn(by[0] * KEY_TURN, by[1] * KEY_TURN);
    else if (key === '+' || key === '-') this.#zoom(key === '+' ? ZOOM : 1 / ZOOM);
    else if (key === 'Escape' && this.view !== FIRST_VIEW) this.view = FIRST_VIEW;
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
}
