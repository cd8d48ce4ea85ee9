import { expect, test } from 'vitest';

import { decodeCbor, decodeMap, tryDecodeMap } from './cbor.ts';

function check(hex: string, expected: unknown): void {
  const bytes = Uint8Array.from(hex.match(/../g) ?? [], byte => parseInt(byte, 16));
  expect(decodeCbor(bytes), hex).toEqual(expected);
}

test('the examples of RFC 8949', () => {
  check('00', 0);
  check('1818', 24);
  check('1903e8', 1000);
  check('1a000f4240', 1_000_000);
  check('1b000000e8d4a51000', 1_000_000_000_000);
  check('1bffffffffffffffff', 18_446_744_073_709_551_615n);
  check('c249010000000000000000', 18_446_744_073_709_551_616n);
  check('3bffffffffffffffff', -18_446_744_073_709_551_616n);
  check('c349010000000000000000', -18_446_744_073_709_551_617n);
  check('20', -1);
  check('3903e7', -1000);
  check('f90000', 0);
  check('f98000', -0);
  check('f93e00', 1.5);
  check('f97bff', 65_504);
  check('f90001', 5.960464477539063e-8);
  check('fa47c35000', 100_000);
  check('fb3ff199999999999a', 1.1);
  check('f97c00', Infinity);
  check('f97e00', NaN);
  check('fbfff0000000000000', -Infinity);
  check('f4', false);
  check('f5', true);
  check('f6', null);
  check('4401020304', Uint8Array.of(1, 2, 3, 4));
  check('62c3bc', 'ü');
  check('64f0908591', '𐅑');
  check('8301820203820405', [1, [2, 3], [4, 5]]);
  check('a26161016162820203', { a: 1, b: [2, 3] });
  check('5f42010243030405ff', Uint8Array.of(1, 2, 3, 4, 5));
  check('7f657374726561646d696e67ff', 'streaming');
  check('9f018202039f0405ffff', [1, [2, 3], [4, 5]]);
  check('bf61610161629f0203ffff', { a: 1, b: [2, 3] });
  check('c11a514b67b0', 1_363_896_240);
});

test('dangerous keys are ordinary keys', () => {
  const value = decodeMap(
    Uint8Array.from([0xa1, 0x69, ...new TextEncoder().encode('__proto__'), 1]),
  );
  expect(Object.keys(value)).toEqual(['__proto__']);
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
});

test('damaged values are rejected', () => {
  for (const bytes of [[0x61], [0x82, 1], [0x1a, 0, 0], [0, 0], [0x1c]]) {
    expect(() => decodeCbor(Uint8Array.from(bytes))).toThrow('CBOR');
    expect(tryDecodeMap(Uint8Array.from(bytes))).toBeUndefined();
  }
  expect(tryDecodeMap(Uint8Array.of(0xa1, 0x61, 0x61, 1))).toEqual({ a: 1 });
  expect(tryDecodeMap(Uint8Array.of())).toEqual({});
});
