/** The hovered place, which all charts on a page show, and the owner of the hovered line. */
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
  /** A list chose the owner, so other lines step back. */
  isChosen = $state(false);

  /** Ends the hover of a chart, unless the hover of another chart has started. */
  leave(source: symbol): void {
    if (this.place?.source !== source) return;
    this.place = undefined;
    this.owner = undefined;
  }
}

export const hover = new Hover();
