/** The pointer over any chart, so that all charts on a page show the same place. */
export interface HoverPlace {
  value: number;
  /** Charts with another x axis do not follow. */
  xAxis: string;
  source: symbol;
}

let place = $state.raw<HoverPlace | undefined>();

export const hover = {
  get place(): HoverPlace | undefined {
    return place;
  },
  set(next: HoverPlace): void {
    place = next;
  },
  /** Ends the hover of one chart; another may have begun in the meantime. */
  leave(source: symbol): void {
    if (place?.source === source) place = undefined;
  },
};
