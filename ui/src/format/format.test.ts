import { expect, test } from 'vitest';

import { aligned, bytes, exact, logged, percentChange, readable, tickLabels } from './number.ts';
import { duration, relativeTime } from './time.ts';
import { exactValue } from './value.ts';

test('numbers are readable', () => {
  const check = (value: number | bigint, expected: string): void =>
    expect(readable(value)).toBe(expected);
  check(0, '0');
  check(0.1 + 0.2, '0.3');
  check(1 / 3, '0.33333');
  check(-0.000012346, '−1.235e−5');
  check(1_234_567, '1\u202f234\u202f567');
  check(1234.5678, '1\u202f234.6');
  check(20_240_115, '20\u202f240\u202f115');
  check(-20_240_116, '−20\u202f240\u202f116');
  check(12_345_678.5, '1.235e7');
  check(1e16, '1e16');
  check(NaN, 'NaN');
  check(-Infinity, '−∞');
  check(2n ** 70n, '1\u202f180\u202f591\u202f620\u202f717\u202f411\u202f303\u202f424');
});

test('decimal points in a column are aligned', () => {
  expect([0.901, 0.84894, -0.5, 12.3, 3, 0, 1e-9, 123_456.78].map(aligned)).toEqual([
    '0.90100',
    '0.84894',
    '−0.50000',
    '12.300',
    '3',
    '0',
    '1e−9',
    '123\u202f460',
  ]);
});

test('exact numbers read back as the same', () => {
  for (const value of [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0])
    expect(Object.is(Number(exact(value)), value)).toBe(true);
});

test('labels of neighboring ticks differ', () => {
  expect(tickLabels([0.1, 0.2, 0.3])).toEqual(['0.1', '0.2', '0.3']);
  expect(tickLabels([0, 2e-7, 4e-7])).toEqual(['0', '2e−7', '4e−7']);
  expect(tickLabels([1.00001, 1.00002])).toEqual(['1.00001', '1.00002']);
  expect(tickLabels([20_000_045, 20_000_050])).toEqual([
    '20\u202f000\u202f045',
    '20\u202f000\u202f050',
  ]);
  expect(tickLabels([0, 5e6, 1e7])).toEqual(['0', '5\u202f000\u202f000', '10\u202f000\u202f000']);
  expect(tickLabels([1e11, 2e11])).toEqual(['1e11', '2e11']);
});

test('durations have two units', () => {
  const check = (ms: number, expected: string): void => expect(duration(ms)).toBe(expected);
  check(7, '7 ms');
  check(4_240, '4.2 s');
  check(59_999, '59 s');
  check(320_000, '5 min 20 s');
  check(11_100_000, '3 h 05 min');
  check(187_200_000, '2 d 04 h');
});

test('ages', () => {
  const now = Date.UTC(2026, 10, 22, 12);
  const check = (ago: number, expected: string): void =>
    expect(relativeTime(now - ago, now)).toBe(expected);
  check(1_000, 'just now');
  check(-1_000, 'just now');
  check(300_000, '5 min ago');
  check(3 * 3_600_000, '3 h ago');
  check(2 * 86_400_000, '2 d ago');
});

test('sizes of files', () => {
  expect([0, 812, 4_200, 123_456, 1_300_000_000].map(bytes)).toEqual([
    '0 B',
    '812 B',
    '4.2 kB',
    '123 kB',
    '1.3 GB',
  ]);
});

test('free values are exact', () => {
  expect(exactValue({ a: [1, NaN, 2n ** 80n], 'b"': null, c: {}, d: new Uint8Array(3) })).toBe(
    '{\n  "a": [\n    1,\n    NaN,\n    1208925819614629174706176\n  ],\n  "b\\"": null,\n  "c": {},\n  "d": 3 bytes\n}',
  );
});

test('differences in percent', () => {
  const pairs = [
    [1.1, 1],
    [0.5, 1],
    [-2, -1],
    [1, 1],
    [30, 1],
    [1, 0],
    [NaN, 1],
    [1e6 + 1, 1],
  ] as const;
  expect(pairs.map(([value, base]) => percentChange(value, base))).toEqual([
    '+10 %',
    '−50 %',
    '−100 %',
    '±0.0 %',
    '+2\u202f900 %',
    '',
    '',
    '+1e8 %',
  ]);
});

test('params are numbers as programs write them', () => {
  const check = (value: number | bigint, text: string): void => expect(logged(value)).toBe(text);
  check(840_117, '840117');
  check(4096, '4096');
  check(2n ** 80n, '1208925819614629174706176');
  check(0.000483, '0.000483');
  check(7.11e-5, '0.0000711');
  check(-2.5e-9, '-2.5e-9');
  check(0.1 + 0.2, '0.3');
  check(NaN, 'NaN');
});
