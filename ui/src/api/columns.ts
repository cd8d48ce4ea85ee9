/**
 * Reads buckets of series straight from the wire into typed arrays. Packed doubles are memory in the byte order of
 * every browser's machine, so a column is one copy. Generated code takes ten times as long: it pushes each value to
 * an array, and makes a BigInt of each step. A test compares both.
 */
import { fromBinary } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

import { SeriesInfoSchema, type SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { PlaceSchema } from '../gen/matyan/series/v1/series_pb.ts';

/** One series of a `BucketsResponse`. Columns that were not requested are empty. */
export interface BucketColumns {
  /** Indexes of the run and the series in the request. */
  run: number;
  series: number;
  info: SeriesInfo | undefined;
  /** Steps per bucket. */
  width: number;
  origin: number;
  index: Uint32Array;
  count: Uint32Array;
  min: Float64Array;
  max: Float64Array;
  first: Float64Array;
  last: Float64Array;
  mean: Float64Array;
  /** Steps and times are exact up to 2^53. */
  firstStep: Float64Array;
  lastStep: Float64Array;
  firstTime: Float64Array;
  lastTime: Float64Array;
  nan: Uint32Array;
  positiveInfinity: Uint32Array;
  negativeInfinity: Uint32Array;
}

type Numbers = Uint32Array | Float64Array;
type ColumnReader = (bytes: Uint8Array) => Numbers;

/** Columns by field number of `SeriesBuckets`. */
const COLUMNS: Record<number, [name: keyof BucketColumns, read: ColumnReader]> = {
  5: ['index', readUints],
  6: ['count', readUints],
  7: ['min', readDoubles],
  8: ['max', readDoubles],
  9: ['first', readDoubles],
  10: ['last', readDoubles],
  11: ['mean', readDoubles],
  12: ['firstStep', readSints],
  13: ['lastStep', readSints],
  14: ['firstTime', readSints],
  15: ['lastTime', readSints],
  16: ['nan', readUints],
  17: ['positiveInfinity', readUints],
  18: ['negativeInfinity', readUints],
};

/** Reads one encoded `SeriesBuckets`. */
export function readSeriesBuckets(bytes: Uint8Array): BucketColumns {
  const columns = emptyColumns();
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    const column = COLUMNS[field];
    if (column) readColumn(columns, column, wireType, field, reader);
    else if (field === 1) {
      const place = fromBinary(PlaceSchema, reader.bytes());
      [columns.run, columns.series] = [place.run, place.series];
    } else if (field === 2) columns.info = fromBinary(SeriesInfoSchema, reader.bytes());
    else if (field === 3) columns.width = Number(reader.uint64());
    else if (field === 4) columns.origin = Number(reader.sint64());
    else reader.skip(wireType, field);
  }
  return columns;
}

/** Senders may pack a column in pieces, or not at all: both are valid, though our server does neither. */
function readColumn(
  columns: BucketColumns,
  [name, read]: [name: keyof BucketColumns, read: ColumnReader],
  wireType: WireType,
  field: number,
  reader: BinaryReader,
): void {
  const start = reader.pos;
  const bytes = wireType === WireType.LengthDelimited ? reader.bytes() : reader.skip(wireType, field);
  const values = read(bytes);
  const known = columns[name] as Numbers;
  if (reader.pos === start) throw new Error(`column ${name} is cut off`);
  (columns[name] as Numbers) = known.length === 0 ? values : joined(known, values);
}

function joined(a: Numbers, b: Numbers): Numbers {
  const all = new (a.constructor as Float64ArrayConstructor)(a.length + b.length);
  all.set(a as Float64Array);
  all.set(b as Float64Array, a.length);
  return all;
}

function readDoubles(bytes: Uint8Array): Float64Array {
  if (bytes.length % 8 !== 0) throw new Error(`a column of doubles has ${bytes.length} bytes`);
  // The copy is aligned, and does not keep the whole message in memory.
  return new Float64Array(bytes.slice().buffer);
}

/** Every varint ends with a byte below 128, so counting those counts the values. */
function countVarints(bytes: Uint8Array): number {
  let count = 0;
  for (let at = 0; at < bytes.length; at++) count += (bytes[at] as number) < 0x80 ? 1 : 0;
  return count;
}

function readUints(bytes: Uint8Array): Uint32Array {
  const values = new Uint32Array(countVarints(bytes));
  for (let at = 0, out = 0; out < values.length; out++) {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] as number;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    values[out] = value;
  }
  return values;
}

/** Zigzag varints, as two halves of 32 bits: arithmetic on doubles would lose the lowest bit of large values. */
function readSints(bytes: Uint8Array): Float64Array {
  const values = new Float64Array(countVarints(bytes));
  for (let at = 0, out = 0; out < values.length; out++) {
    let low = 0;
    let high = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] as number;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high |= bits >>> 4;
      } else high |= bits << (shift - 32);
      if (byte < 0x80) break;
    }
    const half = ((high >>> 1) >>> 0) * 0x1_0000_0000 + (((low >>> 1) | (high << 31)) >>> 0);
    values[out] = low & 1 ? -half - 1 : half;
  }
  return values;
}

function emptyColumns(): BucketColumns {
  const uints = new Uint32Array(0);
  const doubles = new Float64Array(0);
  return {
    run: 0,
    series: 0,
    info: undefined,
    width: 0,
    origin: 0,
    index: uints,
    count: uints,
    min: doubles,
    max: doubles,
    first: doubles,
    last: doubles,
    mean: doubles,
    firstStep: doubles,
    lastStep: doubles,
    firstTime: doubles,
    lastTime: doubles,
    nan: uints,
    positiveInfinity: uints,
    negativeInfinity: uints,
  };
}
