/** What the pointer is over: the place in any chart, which all charts on a page show, and the owner of a line. */
export interface HoverPlace {
  value: number;
  /** Charts with another x axis do not follow. */
  xAxis: string;
  source: symbol;
}

class Hover {
  place = $state.raw<HoverPlace>();
  /** Lines of this run or group are highlighted in all charts, and so are its rows in a list. */
  owner = $state<string>();

  /** Ends the hover of one chart; another may have begun in the meantime. */
  leave(source: symbol): void {
    if (this.place?.source === source) this.place = this.owner = undefined;
  }
}

export const hover = new Hover();
