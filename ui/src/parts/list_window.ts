/**
 * * The window of a list, whose rows usually have one height. Browsers limit the height of an
 * element, so very long lists have a scroll bar for fewer pixels than they have: dragging it then
 * moves faster, while the wheel still moves row by row.
 */

/** Well below the limits of all browsers; the lowest limit is about 17 million. */
export const MAX_HEIGHT_PX = 10_000_000;

/** Room above and below the view that has rows too, so that scrolling by some rows shows no gap. */
const MARGIN_PX = 280;

export class ListWindow {
  /** The top of each row and the bottom of the last row, if heights differ. */
  readonly #tops: number[] | undefined;

  constructor(
    readonly count: number,
    readonly rowHeight: number,
    readonly viewHeight: number,
    /** Heights of the rows, if they differ; no row is lower than `rowHeight`. */
    heights?: readonly number[],
  ) {
    this.#tops = heights && topsOf(heights);
  }

  get fullHeight(): number {
    return this.#top(this.count);
  }

  get scrollHeight(): number {
    return Math.min(this.fullHeight, MAX_HEIGHT_PX);
  }

  get isScaled(): boolean {
    return this.fullHeight > MAX_HEIGHT_PX;
  }

  /** More than the page ever has rows. */
  get slots(): number {
    return Math.ceil((this.viewHeight + 2 * MARGIN_PX) / this.rowHeight) + 2;
  }

  /** Distance from the top of all rows, for a position of the scroll bar. */
  offsetAt(scrollTop: number): number {
    return this.isScaled ? this.clamp(scrollTop * this.#scale) : scrollTop;
  }

  scrollTopAt(offset: number): number {
    return this.isScaled ? offset / this.#scale : offset;
  }

  clamp(offset: number): number {
    return Math.min(Math.max(offset, 0), Math.max(0, this.fullHeight - this.viewHeight));
  }

  /** The rows to have in the page, and their place relative to the top of the view. */
  rowsAt(offset: number): { first: number; end: number; shift: number } {
    const first = Math.max(0, this.#rowAt(offset - MARGIN_PX));
    const end = Math.min(this.count, this.#rowAt(offset + this.viewHeight + MARGIN_PX - 1) + 1);
    return { first, end, shift: this.#top(first) - offset };
  }

  /** The offset nearest to `offset` at which a row is in view. */
  revealing(row: number, offset: number): number {
    return this.clamp(
      Math.min(this.#top(row), Math.max(offset, this.#top(row + 1) - this.viewHeight)),
    );
  }

  #top(row: number): number {
    return this.#tops?.[row] ?? row * this.rowHeight;
  }

  #rowAt(offset: number): number {
    return this.#tops?.findLastIndex(top => top <= offset) ?? Math.floor(offset / this.rowHeight);
  }

  get #scale(): number {
    return (this.fullHeight - this.viewHeight) / (MAX_HEIGHT_PX - this.viewHeight);
  }
}

function topsOf(heights: readonly number[]): number[] {
  const tops = [0];
  let top = 0;
  for (const height of heights) {
    top += height;
    tops.push(top);
  }
  return tops;
}
