/**
 * A random forest that says which columns decide a metric. Unlike a correlation it finds a learning
 * rate that is best in the middle, and columns that matter only together.
 *
 * The importance of a column is the error that shuffling its values adds to the predictions of the
 * runs that a tree has not seen. So a column with many different values has no advantage. The target
 * is its ranks: a few diverged runs would decide everything otherwise. The same runs always give the
 * same forest.
 */
import { ranks } from './statistics.ts';

export interface ForestColumn {
  /** Numbers, or places in a list of texts; NaN: the run has no value. */
  values: Float64Array;
  /** Texts have no order: any of them can be on one side of a split. */
  isOrdered: boolean;
}

export interface Importances {
  /** The share of each column, which sum to 1; all are 0 if no column says anything. */
  shares: number[];
  /** The share of the differences between the runs that the forest predicts, from 0 to 1. */
  explained: number;
}

/** A forest of fewer runs says nothing. */
export const MIN_RUNS = 10;
/** Fewer trees over many runs and columns, which take seconds otherwise, and vary less. */
const TREES = { least: 40, most: 120, cells: 4_000_000 };
const MAX_DEPTH = 10;
const MIN_LEAF = 2;
/** About the number of leaves of a tree over many runs. */
const MOST_LEAVES = 200;
/** A split is a mask of 32 bits; the first bin has the runs without a value. */
const BINS = 32;
const SEED = 0x9e3779b9;

/** A leaf has no `sides`. */
interface TreeNode {
  value: number;
  column: number;
  /** Bins that go to the first side. */
  mask: number;
  sides?: [TreeNode, TreeNode];
}

/** The runs of `target` without a value are left out. */
export function forestImportances(
  columns: readonly ForestColumn[],
  target: Float64Array,
): Importances {
  const known = [...target.keys()].filter(at => Number.isFinite(target[at]));
  const none = { shares: columns.map(() => 0), explained: 0 };
  if (known.length < MIN_RUNS || columns.length === 0) return none;
  const pick = (values: Float64Array): Float64Array =>
    Float64Array.from(known, at => values[at] as number);
  const forest = new Forest(
    columns.map(({ values, isOrdered }) =>
      isOrdered ? binsOf(pick(values)) : textBinsOf(pick(values)),
    ),
    columns.map(({ isOrdered }) => isOrdered),
    ranks(pick(target)),
  );
  return forest.importances();
}

/** Infinities are values, too, whose difference is none. */
function byValue(a: number, b: number): number {
  return a < b ? -1 : Number(a > b);
}

/** Different numbers have their own bins; too many of them share bins of equal size. */
function binsOf(values: Float64Array): Uint8Array {
  const different = [...new Set(values)].filter(value => !Number.isNaN(value)).sort(byValue);
  const places = new Map(different.map((value, at) => [value, at + 1]));
  if (different.length < BINS) return Uint8Array.from(values, value => places.get(value) ?? 0);
  const own = ranks(values);
  const most = own.reduce((all, rank) => (rank > all ? rank : all), 0);
  return Uint8Array.from(own, rank =>
    Number.isNaN(rank) ? 0 : 1 + Math.floor((rank / (most + 1)) * (BINS - 1)),
  );
}

/** The most common texts have their own bins; the others share the last bin. */
export function textBinsOf(values: Float64Array): Uint8Array {
  const counts = new Map<number, number>();
  for (const value of values)
    if (!Number.isNaN(value)) counts.set(value, (counts.get(value) ?? 0) + 1);
  const common = [...counts].sort(([a, own], [b, other]) => other - own || a - b);
  const bins = new Map(common.map(([value], at) => [value, Math.min(at + 1, BINS - 1)]));
  return Uint8Array.from(values, value => bins.get(value) ?? 0);
}

class Forest {
  readonly #random = generator(SEED);
  readonly #counts = new Float64Array(BINS);
  readonly #sums = new Float64Array(BINS);
  /** Bins in the order of their split. */
  readonly #order = new Uint8Array(BINS);
  readonly #minLeaf: number;
  readonly #perSplit: number;

  constructor(
    readonly bins: readonly Uint8Array[],
    readonly isOrdered: readonly boolean[],
    readonly target: Float64Array,
  ) {
    this.#perSplit = Math.ceil(bins.length / 3);
    this.#minLeaf = Math.max(MIN_LEAF, Math.round(target.length / MOST_LEAVES));
  }

  importances(): Importances {
    const { bins, target } = this;
    const added = bins.map(() => 0);
    const sums = new Float64Array(target.length);
    const counts = new Float64Array(target.length);
    const cells = TREES.cells / (bins.length * target.length);
    const trees = Math.min(TREES.most, Math.max(TREES.least, Math.round(cells)));
    for (let tree = 0; tree < trees; tree++) {
      const sample = Array.from(target, () => this.#below(target.length));
      const root = this.#grow(sample, 0);
      const seen = new Set(sample);
      const unseen = [...target.keys()].filter(at => !seen.has(at));
      const own = unseen.map(at => this.#predict(root, at));
      for (const [place, at] of unseen.entries()) {
        sums[at] = (sums[at] as number) + (own[place] as number);
        counts[at] = (counts[at] as number) + 1;
      }
      const error = this.#error(unseen, own);
      for (const column of usedColumns(root)) {
        const shuffled = this.#shuffled(unseen).map(at => bins[column]?.[at] as number);
        const others = unseen.map((at, place) =>
          this.#predict(root, at, column, shuffled[place] as number),
        );
        added[column] = (added[column] as number) + this.#error(unseen, others) - error;
      }
    }
    const positive = added.map(one => Math.max(0, one));
    const total = positive.reduce((sum, one) => sum + one, 0);
    return {
      shares: positive.map(one => (total > 0 ? one / total : 0)),
      explained: this.#explained(sums, counts),
    };
  }

  #explained(sums: Float64Array, counts: Float64Array): number {
    const { target } = this;
    const known = [...target.keys()].filter(at => (counts[at] as number) > 0);
    const mean = known.reduce((sum, at) => sum + (target[at] as number), 0) / known.length;
    let rest = 0;
    let all = 0;
    for (const at of known) {
      const value = target[at] as number;
      rest += (value - (sums[at] as number) / (counts[at] as number)) ** 2;
      all += (value - mean) ** 2;
    }
    return all > 0 ? Math.max(0, 1 - rest / all) : 0;
  }

  #grow(rows: readonly number[], depth: number): TreeNode {
    const sum = rows.reduce((total, at) => total + (this.target[at] as number), 0);
    const leaf = { value: sum / rows.length, column: -1, mask: 0 };
    if (depth >= MAX_DEPTH || rows.length < 2 * this.#minLeaf) return leaf;
    let best = { gain: 1e-9, column: -1, mask: 0 };
    for (const column of this.#chosenColumns()) {
      const split = this.#bestSplit(rows, column, sum);
      if (split.gain > best.gain) best = { ...split, column };
    }
    if (best.column < 0) return leaf;
    const own = this.bins[best.column] as Uint8Array;
    const isFirst = (at: number): boolean => ((best.mask >>> (own[at] as number)) & 1) === 1;
    return {
      value: leaf.value,
      column: best.column,
      mask: best.mask,
      sides: [
        this.#grow(rows.filter(isFirst), depth + 1),
        this.#grow(
          rows.filter(at => !isFirst(at)),
          depth + 1,
        ),
      ],
    };
  }

  /**
   * Texts are split in the order of their means, which includes the best of all splits. Called a
   * million times, so it allocates nothing but its result.
   */
  #bestSplit(rows: readonly number[], column: number, sum: number): { gain: number; mask: number } {
    const own = this.bins[column] as Uint8Array;
    const counts = this.#counts.fill(0);
    const sums = this.#sums.fill(0);
    for (const at of rows) {
      const bin = own[at] as number;
      counts[bin] = (counts[bin] as number) + 1;
      sums[bin] = (sums[bin] as number) + (this.target[at] as number);
    }
    const isOrdered = this.isOrdered[column] === true;
    const order = this.#order;
    const size = this.#fillOrder(isOrdered);
    const base = sum ** 2 / rows.length;
    let gain = 0;
    let end = 0;
    let count = 0;
    let part = 0;
    for (let at = 1; at < size; at++) {
      const bin = order[at - 1] as number;
      count += counts[bin] as number;
      part += sums[bin] as number;
      const rest = rows.length - count;
      if (count < this.#minLeaf || rest < this.#minLeaf) continue;
      const own = part ** 2 / count + (sum - part) ** 2 / rest - base;
      if (own > gain) {
        gain = own;
        end = at;
      }
    }
    if (end === 0) return { gain: 0, mask: 0 };
    const all = order.subarray(0, size);
    return { gain, mask: isOrdered ? maskUpTo(all, end) : maskOf(all, end) };
  }

  /** Writes the bins that some rows have, and returns their number. */
  #fillOrder(isOrdered: boolean): number {
    const order = this.#order;
    let size = 0;
    for (let bin = 0; bin < BINS; bin++) {
      if (this.#counts[bin] === 0) continue;
      let at = size;
      // Few texts are sorted fastest by insertion.
      for (; !isOrdered && at > 0 && this.#mean(order[at - 1] as number) > this.#mean(bin); at--)
        order[at] = order[at - 1] as number;
      order[at] = bin;
      size += 1;
    }
    return size;
  }

  #mean(bin: number): number {
    return (this.#sums[bin] as number) / (this.#counts[bin] as number);
  }

  /** Some of the columns, each at most once. */
  #chosenColumns(): number[] {
    const all = [...this.bins.keys()];
    for (let at = 0; at < this.#perSplit; at++) swap(all, at, at + this.#below(all.length - at));
    return all.slice(0, this.#perSplit);
  }

  #predict(root: TreeNode, row: number, changed = -1, bin = 0): number {
    let node = root;
    while (node.sides) {
      const own = node.column === changed ? bin : (this.bins[node.column]?.[row] as number);
      node = node.sides[(node.mask >>> own) & 1 ? 0 : 1];
    }
    return node.value;
  }

  #error(rows: readonly number[], predicted: readonly number[]): number {
    return rows.reduce(
      (sum, at, place) => sum + ((this.target[at] as number) - (predicted[place] as number)) ** 2,
      0,
    );
  }

  #shuffled(rows: readonly number[]): number[] {
    const all = [...rows];
    for (let at = all.length - 1; at > 0; at--) swap(all, at, this.#below(at + 1));
    return all;
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count);
  }
}

/** All bins up to the middle between two neighbors: a run that the tree has not seen has others. */
function maskUpTo(order: Uint8Array, end: number): number {
  const middle = ((order[end - 1] ?? 0) + (order[end] ?? 0)) >> 1;
  return middle >= BINS - 1 ? -1 : (1 << (middle + 1)) - 1;
}

/** Some texts. A text that the tree has not seen goes to the side of most texts. */
function maskOf(order: Uint8Array, end: number): number {
  const bits = (bins: Uint8Array): number => bins.reduce((all, bin) => all | (1 << bin), 0);
  return 2 * end > order.length ? ~bits(order.subarray(end)) : bits(order.subarray(0, end));
}

function usedColumns(root: TreeNode): Set<number> {
  const used = new Set<number>();
  const open = [root];
  for (let node = open.pop(); node; node = open.pop()) {
    if (!node.sides) continue;
    used.add(node.column);
    open.push(...node.sides);
  }
  return used;
}

function swap(all: number[], a: number, b: number): void {
  const first = all[a] as number;
  all[a] = all[b] as number;
  all[b] = first;
}

/** Mulberry32: numbers from 0 to 1 that look random, and are the same for the same seed. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
