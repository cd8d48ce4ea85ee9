import { expect, test } from 'vitest';

import { decodeCbor } from './cbor.ts';
import { encodeCbor, type CborState } from './cbor_writer.ts';

const hex = (value: CborState): string =>
  [...encodeCbor(value)].map(byte => byte.toString(16).padStart(2, '0')).join('');

test('values are written as in the examples of RFC 8949', () => {
  expect(hex(0)).toBe('00');
  expect(hex(23)).toBe('17');
  expect(hex(24)).toBe('1818');
  expect(hex(1000)).toBe('1903e8');
  expect(hex(1000000000000)).toBe('1b000000e8d4a51000');
  expect(hex(-1)).toBe('20');
  expect(hex(-1000)).toBe('3903e7');
  expect(hex(1.1)).toBe('fb3ff199999999999a');
  expect(hex(-4.1)).toBe('fbc010666666666666');
  expect(hex(1e300)).toBe('fb7e37e43c8800759c');
  expect(hex('IETF')).toBe('6449455446');
  expect(hex('ü')).toBe('62c3bc');
  expect(hex({ a: 1, b: [2, 3] })).toBe('a26161016162820203');
});

test('what is written is read', () => {
  const value = {
    q: 'x'.repeat(300),
    list: [-7, 2 ** 40, 0.1, '🦊'],
    deep: { none: {}, all: [[]] },
  };
  expect(decodeCbor(encodeCbor(value))).toEqual(value);
});
