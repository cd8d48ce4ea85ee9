/**
 * Buckets that were read, by series and by level of detail. An entry covers a range of steps at one
 * resolution. When a series changes, its entries become stale: they are still drawn, and extended
 * from their last bucket on. If points are logged before the last bucket, the whole entry is read
 * from the start.
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
  readonly ref: SeriesRef;
  readonly view: StepView;
  data: SeriesData;
  /** The series has points that are not in the data, none of them before the last bucket. */
  isStale: boolean;
}

/** A change of a run, or of all. */
interface Change {
  at: number;
  runId?: string;
  /** First step of a series that has changed; undefined if none has. */
  firstOf: (number: number) => number | undefined;
}

export interface CacheHit {
  entry: CacheEntry;
  /** It has the resolution that the view needs. */
  isFineEnough: boolean;
}

/** Charts of about 5,000 series of 500 buckets. */
const DEFAULT_BYTES = 128 * 1024 * 1024;

/** Views of one series, such as parts that the reader zoomed to. */
const MAX_LEVELS = 8;

/** Changes that a read may miss while it runs. */
const MAX_RECENT = 1_000;

export class SeriesCache {
  /** Number of changes of all runs so far. */
  changes = 0;
  /** In order of last use. */
  #entries = new Map<string, CacheEntry[]>();
  /** Number of edits of the series of a run. */
  #edits = new Map<string, bigint>();
  #recent: Change[] = [];
  #bytes = 0;

  constructor(readonly maxBytes = DEFAULT_BYTES) {}

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Notes new points of a run, in all or some of its series. Returns whether series were edited
   * since the last note, which `edits` counts.
   */
  markChanged(runId: string, edits = 0n, progress?: Omit<MetricProgress, keyof Message>): boolean {
    const isEdited = edits !== (this.#edits.get(runId) ?? 0n);
    if (isEdited) this.#edits.set(runId, edits);
    const firsts =
      progress && new Map(progress.numbers.map((number, at) => [number, progress.firstSteps[at]]));
    // Without `progress`, new points are assumed to follow the points that were read.
    const firstOf = (number: number): number | undefined => {
      if (isEdited || !firsts) return isEdited ? -Infinity : Infinity;
      return firsts.has(number) ? Number(firsts.get(number)) : undefined;
    };
    this.#add({ at: this.changes + 1, runId, firstOf });
    return isEdited;
  }

  /** Drops all entries after changes were missed. */
  reset(): void {
    this.#add({ at: this.changes + 1, firstOf: () => -Infinity });
  }

  /**
   * Finds the coarsest entry that covers `view` in sufficient detail; without such an entry, the
   * finest that covers it.
   */
  lookup(ref: SeriesRef, view: StepView): CacheHit | undefined {
    const key = keyOf(ref);
    const entries = this.#entries.get(key);
    if (!entries) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entries);
    let best: CacheHit | undefined;
    for (const entry of entries.filter(one => covers(one.view, view))) {
      const isFineEnough = entry.data.width <= neededWidth(entry.data, view);
      const isBetter =
        !best || (isFineEnough === best.isFineEnough ? isCloser(entry, best) : isFineEnough);
      if (isBetter) best = { entry, isFineEnough };
    }
    return best;
  }

  /**
   * Stores the data of a read for `view`; `changes` is the number of changes at the start of the
   * read.
   */
  store(ref: SeriesRef, view: StepView, data: SeriesData, changes: number): CacheEntry {
    const key = keyOf(ref);
    const known = this.#entries.get(key) ?? [];
    const others = known.filter(one => !isSameView(one.view, view));
    const kept = others.slice(-MAX_LEVELS + 1);
    for (const one of known) {
      if (!kept.includes(one)) this.#bytes -= byteSize(one.data);
    }
    const entry: CacheEntry = { ref, view, data, isStale: false };
    this.#entries.delete(key);
    this.#entries.set(key, [...kept, entry]);
    this.#bytes += byteSize(data);
    this.#catchUp(entry, changes);
    this.#evict(key);
    return entry;
  }

  /**
   * Appends data that was read from step `start` on, and merges buckets if there are too many.
   * Returns whether the entry is up to date.
   */
  extend(entry: CacheEntry, start: number, tail: SeriesData, changes: number): boolean {
    // Another tail has merged the buckets around `start`. The first half of the merged bucket would
    // be lost.
    if (start % entry.data.width !== 0) return !entry.isStale;
    const key = keyOf(entry.ref);
    const before = byteSize(entry.data);
    entry.data = extend(entry.data, start, tail);
    if (entry.data.steps.length > 2 * entry.view.pixels)
      entry.data = coarsen(entry.data, entry.view.pixels);
    // The entry may have left the cache during the read.
    if (!this.#entries.get(key)?.includes(entry)) return true;
    this.#bytes += byteSize(entry.data) - before;
    entry.isStale = false;
    this.#catchUp(entry, changes);
    this.#evict(key);
    return true;
  }

  #add(change: Change): void {
    this.changes = change.at;
    this.#recent.push(change);
    if (this.#recent.length > MAX_RECENT) this.#recent.shift();
    for (const entries of this.#entries.values())
      for (const entry of [...entries]) this.#apply(change, entry);
  }

  /** Applies the changes since a read started. */
  #catchUp(entry: CacheEntry, changes: number): void {
    const isMissed = changes + 1 < (this.#recent[0]?.at ?? 0);
    if (isMissed) this.#apply({ at: changes, firstOf: () => -Infinity }, entry);
    for (const change of this.#recent) {
      if (change.at > changes) this.#apply(change, entry);
    }
  }

  /** An entry with replaced points leaves. Others are extended. */
  #apply({ runId = '', firstOf }: Change, entry: CacheEntry): void {
    const { ref, data } = entry;
    const first = runId && runId !== ref.runId ? undefined : firstOf(ref.number);
    if (first === undefined) return;
    entry.isStale = true;
    if (first >= (tailStart(data) ?? -Infinity)) return;
    const entries = this.#entries.get(keyOf(ref));
    if (!entries?.includes(entry)) return;
    this.#bytes -= byteSize(data);
    entries.splice(entries.indexOf(entry), 1);
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

/**
 * Widest bucket that the view tolerates. The server returns one to two buckets per pixel, so two
 * pixels may share a bucket.
 */
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
