/** Writes CBOR (RFC 8949): states of pages that the server keeps. The counterpart of `cbor.ts`. */
import { joined } from './bytes.ts';
import type { CborValue } from './cbor.ts';

export function encodeCbor(value: CborValue): Uint8Array<ArrayBuffer> {
  return joined(pieces(value));
}

function pieces(value: CborValue): Uint8Array[] {
  if (value === null || typeof value === 'boolean')
    return [Uint8Array.of(value === null ? 0xf6 : value ? 0xf5 : 0xf4)];
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return [double(value)];
  if (typeof value === 'number' || typeof value === 'bigint') return [integer(value)];
  if (typeof value === 'string') {
    const bytes = new TextEncoder().encode(value);
    return [head(3, bytes.length), bytes];
  }
  if (value instanceof Uint8Array) return [head(2, value.length), value];
  if (Array.isArray(value)) return [head(4, value.length), ...value.flatMap(pieces)];
  const entries = Object.entries(value);
  return [head(5, entries.length), ...entries.flat().flatMap(pieces)];
}

function integer(value: number | bigint): Uint8Array {
  // A negative zero is no integer.
  if (Object.is(value, -0)) return double(-0);
  const size = value < 0 ? -1n - BigInt(value) : BigInt(value);
  if (size >= 2n ** 64n) throw new RangeError(`CBOR: ${value} needs more than 64 bits`);
  return head(value < 0 ? 1 : 0, size);
}

function double(value: number): Uint8Array {
  const bytes = new Uint8Array(9);
  bytes[0] = 0xfb;
  new DataView(bytes.buffer).setFloat64(1, value);
  return bytes;
}

/** The major type with the shortest form of its argument. */
function head(major: number, argument: number | bigint): Uint8Array {
  const size = BigInt(argument);
  if (size < 24n) return Uint8Array.of((major << 5) | Number(size));
  const exponent = size < 1n << 8n ? 0 : size < 1n << 16n ? 1 : size < 1n << 32n ? 2 : 3;
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, size);
  return Uint8Array.of((major << 5) | (24 + exponent), ...bytes.subarray(8 - (1 << exponent)));
}
