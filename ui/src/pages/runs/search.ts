/** The search of the runs table, and a run that the search finds. */
import { decodeMap, type CborValue } from '../../api/cbor.ts';
import type { Run } from '../../gen/matyan/runs/v1/run_pb.ts';
import type { DataColumn } from './columns.ts';

export interface TableSearch {
  query: string;
  /** Texts of columns, with a minus for descending order; the most significant column first. */
  sort: string[];
  /** Columns from the URL; empty: chosen from the first runs. */
  columns: DataColumn[];
  by: string[];
  /** Finds the columns whose values differ. */
  differ: boolean;
}

export interface RunRow {
  run: Run;
  params: { [key: string]: CborValue };
}

/** Searches with the same key have the same rows. */
export function listKey({ query, sort, by }: TableSearch): string {
  return JSON.stringify([query, sort, by]);
}

export function rowOf(run: Run): RunRow {
  return { run, params: decodeMap(run.params) };
}
