/** Grows forests outside of the page, which stays quick while it waits. */
import { forestImportances, type ForestColumn } from './forest.ts';

export interface ForestRequest {
  columns: ForestColumn[];
  target: Float64Array;
}

addEventListener('message', ({ data }: MessageEvent<ForestRequest>) =>
  postMessage(forestImportances(data.columns, data.target)),
);
