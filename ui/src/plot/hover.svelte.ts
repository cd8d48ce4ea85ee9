/** The pointer over any chart, so that all charts on a page show the same place. */
export interface HoverPlace {
  value: number;
  /** Charts with another x axis do not follow. */
  xAxis: string;
  source: symbol;
}

class Hover {
  place = $state.raw<HoverPlace>();

  /** Ends the hover of one chart; another may have begun in the meantime. */
  leave(source: symbol): void {
    if (this.place?.source === source) this.place = undefined;
  }
}

export const hover = new Hover();
