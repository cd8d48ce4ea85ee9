/** Rows that a list shows without scrolling and without a search field. */
export const FEW = 10;
const HEADINGS_PX = 34;

/** The height of a list, with room for its border. */
export function tableHeight(rows: number, rowHeight: number, hasHeadings: boolean): number {
  return Math.min(Math.max(rows, 1), FEW) * rowHeight + (hasHeadings ? HEADINGS_PX : 0) + 2;
}
