/**
 * Buckets that were read, by series and by level of detail. An entry covers a range of steps at one resolution. When
 * a series changes its entries become stale: they are still drawn, and extended from their last bucket on. If points
 * are logged before it, they are read again as a whole.
 */
import type { Message } from '@bufbuild/protobuf';

import type { MetricProgress } from '../gen/matyan/runs/v1/runs_pb.ts';
import { byteSize, coarsen, extend, tailStart, type SeriesData } from './series_data.ts';

export interface SeriesRef {
  runId: string;
  number: number;
}

/** The part of a series that a chart shows, both ends included; absent ends are open. */
export interface StepView {
  from?: number | undefined;
  to?: number | undefined;
  /** Width of the chart in device pixels. */
  pixels: number;
  /** The x axis is a time. Times take longer to decode than everything else. */
  hasTimes?: boolean;
}

export interface CacheEntry {
  readonly view: StepView;
  data: SeriesData;
  /** Number of changes of all runs when the data was read. */
  changes: number;
}

export interface CacheHit {
  entry: CacheEntry;
  /** It has the resolution that the view needs. */
  isFineEnough: boolean;
  isStale: boolean;
}

/** Charts of about 5,000 series of 500 buckets. */
const DEFAULT_BYTES = 128 * 1024 * 1024;

/** Views of one series, such as parts that were zoomed to. */
const MAX_LEVELS = 8;

export class SeriesCache {
  /** Number of changes of all runs so far. */
  changes = 0;
  /** In order of last use. */
  #entries = new Map<string, CacheEntry[]>();
  /** The last change of a series, and the last one of a run that may concern any of its series. */
  #changedAt = new Map<string, number>();
  /** The last change of points that may have been read before. */
  #replacedAt = new Map<string, number>();
  /** Edits of the series of a run, and the change that was the last one: what was read before is no longer true. */
  #edits = new Map<string, [edits: bigint, changes: number]>();
  #resetAt = 0;
  #bytes = 0;

  constructor(readonly maxBytes = DEFAULT_BYTES) {}

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Some series of a run have new points, or any may. `edits` is the number of edits of its series so far. Returns whether
   * there are new ones.
   */
  markChanged(runId: string, edits = 0n, progress?: Omit<MetricProgress, keyof Message>): boolean {
    const now = (this.changes += 1);
    if (!progress) this.#changedAt.set(runId, now);
    progress?.numbers.forEach((number, at) => {
      const key = keyOf({ runId, number });
      this.#changedAt.set(key, now);
      const first = Number(progress.firstSteps[at]);
      const isReplaced = this.#entries.get(key)?.some(({ data }) => first < (tailStart(data) ?? first));
      if (isReplaced) this.#replacedAt.set(key, now);
    });
    const isEdited = edits !== (this.#edits.get(runId)?.[0] ?? 0n);
    if (isEdited) this.#edits.set(runId, [edits, now]);
    return isEdited;
  }

  /** Changes were missed: what was read before may no longer be true. */
  reset(): void {
    this.#resetAt = this.changes += 1;
  }

  /** Finds the entry that suits `view` best: of those that cover it the coarsest that is fine enough. */
  lookup(ref: SeriesRef, view: StepView): CacheHit | undefined {
    const key = keyOf(ref);
    const entries = this.#entries.get(key);
    if (!entries) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entries);
    let best: CacheHit | undefined;
    const editedAt = this.#edits.get(ref.runId)?.[1] ?? 0;
    const firstTrue = Math.max(this.#resetAt, editedAt, this.#replacedAt.get(key) ?? 0);
    const changedAt = Math.max(...[key, ref.runId].map(of => this.#changedAt.get(of) ?? 0));
    for (const entry of entries.filter(one => one.changes >= firstTrue && covers(one.view, view))) {
      const isFineEnough = entry.data.width <= neededWidth(entry.data, view);
      const isBetter = !best || (isFineEnough === best.isFineEnough ? isCloser(entry, best) : isFineEnough);
      if (isBetter) best = { entry, isFineEnough, isStale: entry.changes < changedAt };
    }
    return best;
  }

  /** Stores what was read for `view`; `changes` is from before the read began. */
  store(ref: SeriesRef, view: StepView, data: SeriesData, changes: number): CacheEntry {
    const key = keyOf(ref);
    const known = this.#entries.get(key) ?? [];
    const others = known.filter(one => !isSameView(one.view, view));
    const kept = others.slice(-MAX_LEVELS + 1);
    for (const one of known) if (!kept.includes(one)) this.#bytes -= byteSize(one.data);
    const entry: CacheEntry = { view, data, changes };
    this.#entries.delete(key);
    this.#entries.set(key, [...kept, entry]);
    this.#bytes += byteSize(data);
    this.#evict(key);
    return entry;
  }

  /** Appends what was read from step `start` on, and merges buckets if there are too many for the view. */
  extend(ref: SeriesRef, entry: CacheEntry, start: number, tail: SeriesData, changes: number): void {
    this.#bytes -= byteSize(entry.data);
    entry.data = extend(entry.data, start, tail);
    if (entry.data.steps.length > 2 * entry.view.pixels) entry.data = coarsen(entry.data, entry.view.pixels);
    entry.changes = changes;
    this.#bytes += byteSize(entry.data);
    this.#evict(keyOf(ref));
  }

  #evict(keep: string): void {
    for (const [key, entries] of this.#entries) {
      if (this.#bytes <= this.maxBytes) return;
      if (key === keep) continue;
      for (const { data } of entries) this.#bytes -= byteSize(data);
      this.#entries.delete(key);
    }
  }
}

function keyOf({ runId, number }: SeriesRef): string {
  return `${number}/${runId}`;
}

function covers(outer: StepView, inner: StepView): boolean {
  const from = outer.from ?? -Infinity;
  const to = outer.to ?? Infinity;
  const hasTimes = outer.hasTimes || !inner.hasTimes;
  return hasTimes && from <= (inner.from ?? -Infinity) && to >= (inner.to ?? Infinity);
}

function isSameView(a: StepView, b: StepView): boolean {
  return a.from === b.from && a.to === b.to && a.pixels === b.pixels && a.hasTimes === b.hasTimes;
}

/** Widest bucket that the view tolerates: two per pixel at worst, as the server returns between one and two. */
function neededWidth(data: SeriesData, view: StepView): number {
  const from = view.from ?? data.steps[0] ?? 0;
  const to = Math.min(view.to ?? Infinity, data.steps.at(-1) ?? 0);
  return Math.max(1, (2 * (to - from + 1)) / view.pixels);
}

function isCloser(entry: CacheEntry, best: CacheHit): boolean {
  // Too fine an entry costs drawing time, too coarse an entry lacks detail.
  return best.isFineEnough
    ? entry.data.width > best.entry.data.width
    : entry.data.width < best.entry.data.width;
}
