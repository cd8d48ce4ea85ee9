/**
 * Reads series straight from the wire into typed arrays. Packed doubles are memory in the byte
 * order of every browser's machine, so reading a column is one copy. Generated code takes ten times
 * as long: it pushes each value to an array, and makes a BigInt of each step. A test compares both.
 */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

import { newDoubles, newUints, scratchFor } from './column_memory.ts';

interface SeriesColumns {
  run: number;
  series: number;
}

/**
 * One series of a `BucketsResponse`. Columns that were not requested are empty, and fields that no
 * page shows are skipped.
 */
export interface BucketColumns extends SeriesColumns {
  /** Steps per bucket. */
  width: number;
  /** Numbers of points. */
  count: Uint32Array;
  min: Float64Array;
  max: Float64Array;
  last: Float64Array;
  /** Steps and times are exact up to 2^53. */
  lastStep: Float64Array;
  lastTime: Float64Array;
  nan: Uint32Array;
  positiveInfinity: Uint32Array;
  negativeInfinity: Uint32Array;
}

/** One `SeriesPoints`, or a piece of one. Columns that were not requested are empty. */
export interface PointColumns extends SeriesColumns {
  /** Steps, epochs and times are exact up to 2^53. */
  steps: Float64Array;
  values: Float64Array;
  epochs: Float64Array;
  times: Float64Array;
}

/** Marks a point without an epoch. */
export const NO_EPOCH = -(2 ** 63);

type Numbers = Uint32Array | Float64Array;
type Column = [name: string, read: (bytes: Uint8Array) => Numbers];

/** Field of the width of buckets; points have a column there. */
const BUCKET_WIDTH = 3;

const BUCKET_COLUMNS: Record<number, Column> = {
  6: ['count', readUints],
  7: ['min', readDoubles],
  8: ['max', readDoubles],
  10: ['last', readDoubles],
  13: ['lastStep', readSints],
  15: ['lastTime', readSints],
  16: ['nan', readUints],
  17: ['positiveInfinity', readUints],
  18: ['negativeInfinity', readUints],
};

const POINT_COLUMNS: Record<number, Column> = {
  3: ['steps', readSints],
  4: ['values', readDoubles],
  5: ['epochs', readSints],
  6: ['times', readSints],
};

const UINTS = new Uint32Array(0);
const DOUBLES = new Float64Array(0);
const NO_SERIES: SeriesColumns = { run: 0, series: 0 };
const NO_BUCKETS = { ...NO_SERIES, width: 0, ...emptyColumns(BUCKET_COLUMNS) } as BucketColumns;
const NO_POINTS = { ...NO_SERIES, ...emptyColumns(POINT_COLUMNS) } as PointColumns;

function emptyColumns(table: Record<number, Column>): object {
  const columns = Object.values(table);
  return Object.fromEntries(
    columns.map(([name, read]) => [name, read === readUints ? UINTS : DOUBLES]),
  );
}

export function readSeriesBuckets(bytes: Uint8Array): BucketColumns {
  return readColumns(bytes, { ...NO_BUCKETS }, BUCKET_COLUMNS);
}

export function readSeriesPoints(bytes: Uint8Array): PointColumns {
  return readColumns(bytes, { ...NO_POINTS }, POINT_COLUMNS);
}

function readColumns<T extends SeriesColumns>(
  bytes: Uint8Array,
  into: T,
  table: Record<number, Column>,
): T {
  const columns = into as unknown as Record<string, Numbers>;
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    const column = table[field];
    if (column) {
      const [name, read] = column;
      // Senders may pack a column in pieces, or not at all: both are valid, though our server does
      // neither.
      const packed =
        wireType === WireType.LengthDelimited ? reader.bytes() : reader.skip(wireType, field);
      columns[name] = joined(columns[name] as Numbers, read(packed));
    } else if (field === 1) readPlace(new BinaryReader(reader.bytes()), into);
    else if (field === BUCKET_WIDTH) Object.assign(into, { width: Number(reader.uint64()) });
    else reader.skip(wireType, field);
  }
  return into;
}

/** Reads `Place`: the indexes of the run (1) and of the series (2). */
function readPlace(reader: BinaryReader, into: SeriesColumns): void {
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1) into.run = reader.uint32();
    else if (field === 2) into.series = reader.uint32();
    else reader.skip(wireType, field);
  }
}

function joined(a: Numbers, b: Numbers): Numbers {
  if (a.length === 0) return b;
  const all = new (a.constructor as Float64ArrayConstructor)(a.length + b.length);
  all.set(a as Float64Array);
  all.set(b as Float64Array, a.length);
  return all;
}

function readDoubles(bytes: Uint8Array): Float64Array {
  if (bytes.length % 8 !== 0) throw new Error(`a column of doubles has ${bytes.length} bytes`);
  // The copy is aligned, and does not keep the whole message in memory.
  const values = newDoubles(bytes.length / 8);
  new Uint8Array(values.buffer, values.byteOffset, bytes.length).set(bytes);
  return values;
}

/**
 * Reads varints into room that lasts until the next call: integers of up to four bytes, and 53 bits
 * of longer integers.
 */
function readVarints(bytes: Uint8Array, isZigzag: boolean): Float64Array {
  const found = scratchFor(bytes.length);
  let count = 0;
  for (let at = 0; at < bytes.length; count++) {
    let byte = bytes[at++] as number;
    let low = byte & 0x7f;
    for (let shift = 7; byte >= 0x80 && shift < 28; shift += 7) {
      byte = bytes[at++] as number;
      low |= (byte & 0x7f) << shift;
    }
    // The lowest bit is the sign of a zigzag integer, so 27 other bits have been read.
    let value = low >>> 1;
    for (let scale = 2 ** 27; byte >= 0x80; scale *= 128) {
      byte = bytes[at++] as number;
      value += (byte & 0x7f) * scale;
    }
    const bit = low & 1;
    found[count] = isZigzag ? (bit ? -value - 1 : value) : 2 * value + bit;
  }
  return found.subarray(0, count);
}

function readUints(bytes: Uint8Array): Uint32Array {
  const found = readVarints(bytes, false);
  const values = newUints(found.length);
  values.set(found);
  return values;
}

function readSints(bytes: Uint8Array): Float64Array {
  const found = readVarints(bytes, true);
  const values = newDoubles(found.length);
  values.set(found);
  return values;
}
