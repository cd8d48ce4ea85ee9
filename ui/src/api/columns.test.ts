import { create, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { expect, test } from 'vitest';

import {
  SeriesBucketsSchema,
  SeriesPointsSchema,
  type SeriesBuckets,
} from '../gen/matyan/series/v1/series_pb.ts';
import { readSeriesBuckets, readSeriesPoints, type BucketColumns } from './columns.ts';

/** The result of generated code, in the form of our reader. */
function expected(buckets: SeriesBuckets): BucketColumns {
  const doubles = (values: readonly (number | bigint)[]): Float64Array =>
    Float64Array.from(values, Number);
  return {
    run: buckets.place?.run ?? 0,
    series: buckets.place?.series ?? 0,
    width: Number(buckets.width),
    count: Uint32Array.from(buckets.count),
    min: doubles(buckets.min),
    max: doubles(buckets.max),
    last: doubles(buckets.last),
    lastStep: doubles(buckets.lastStep),
    lastTime: doubles(buckets.lastTimeUs),
    nan: Uint32Array.from(buckets.nan),
    positiveInfinity: Uint32Array.from(buckets.positiveInfinity),
    negativeInfinity: Uint32Array.from(buckets.negativeInfinity),
  };
}

function check(init: Parameters<typeof create<typeof SeriesBucketsSchema>>[1]): void {
  const buckets = create(SeriesBucketsSchema, init);
  expect(readSeriesBuckets(toBinary(SeriesBucketsSchema, buckets))).toEqual(expected(buckets));
}

test('the reader agrees with generated code', () => {
  check({});
  check({
    place: { run: 3, series: 99_999 },
    width: 2n ** 40n,
    origin: -(2n ** 41n),
    index: [0, 1, 4_294_967_295],
  });
  check({ info: { number: 7, name: 'loss ü', context: '{"a":1}', last: NaN, count: 2n ** 60n } });
  check({
    min: [-0, NaN, Infinity, 5e-324],
    max: [1.7976931348623157e308, -Infinity],
    first: [1],
    last: [0.1 + 0.2],
    mean: [1 / 3],
    nan: [0, 300],
    positiveInfinity: [1],
    negativeInfinity: [2 ** 31],
    count: [127, 128, 16_383, 16_384],
  });
});

test('steps and times are exact up to 2^53', () => {
  const steps = [
    0,
    1,
    -1,
    63,
    64,
    -64,
    -65,
    2 ** 28,
    2 ** 31,
    2 ** 32,
    2 ** 35 - 1,
    -(2 ** 35),
    2 ** 53,
    -(2 ** 53),
  ];
  check({
    firstStep: steps.map(BigInt),
    lastStep: [-(2n ** 62n), 2n ** 62n],
    firstTimeUs: [1_790_000_000_123_456n],
  });
});

test('random columns agree with generated code', () => {
  let state = 7;
  const random = (): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state / 2 ** 32;
  };
  for (let round = 0; round < 200; round++) {
    const length = Math.floor(random() * 40);
    const some = <T>(value: () => T): T[] => Array.from({ length }, value);
    const step = (): bigint =>
      BigInt(Math.floor((random() - 0.5) * 2 ** Math.floor(random() * 53)));
    const uint = (): number => Math.floor(random() * 2 ** Math.floor(random() * 32));
    check({
      index: some(uint),
      min: some(random),
      max: some(random),
      lastStep: some(step),
      lastTimeUs: some(step),
      nan: some(uint),
    });
  }
});

test('columns in pieces and unpacked values are joined', () => {
  const writer = new BinaryWriter();
  writer.tag(7, WireType.Bit64).double(1.5);
  writer.tag(7, WireType.LengthDelimited).fork().double(2).double(3).join();
  writer.tag(16, WireType.Varint).uint32(300);
  writer.tag(16, WireType.Varint).uint32(1);
  writer.tag(99, WireType.Varint).uint32(1);
  const columns = readSeriesBuckets(writer.finish());
  expect([...columns.min]).toEqual([1.5, 2, 3]);
  expect([...columns.nan]).toEqual([300, 1]);
});

test('points agree with generated code', () => {
  const init = {
    place: { run: 1, series: 2 },
    steps: [-5n, 0n, 2n ** 53n],
    values: [NaN, -0, 0.1],
    epochs: [-(2n ** 63n), 0n, 1n],
    timesUs: [1_790_000_000_123_456n],
    xPlaces: [0, 2],
    xValues: [1.5, Infinity],
    more: true,
    count: 7n,
  };
  expect(readSeriesPoints(toBinary(SeriesPointsSchema, create(SeriesPointsSchema, init)))).toEqual({
    run: 1,
    series: 2,
    steps: Float64Array.from(init.steps, Number),
    values: Float64Array.from(init.values),
    epochs: Float64Array.from(init.epochs, Number),
    times: Float64Array.from(init.timesUs, Number),
  });
});

test('damaged columns are rejected', () => {
  const writer = new BinaryWriter().tag(7, WireType.LengthDelimited).bytes(new Uint8Array(7));
  expect(() => readSeriesBuckets(writer.finish())).toThrow('doubles');
});
