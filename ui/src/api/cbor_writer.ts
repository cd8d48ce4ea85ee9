/** Writes CBOR (RFC 8949): states of pages that the server keeps. The counterpart of `cbor.ts`. */
import { joined } from './bytes.ts';
import type { CborValue } from './cbor.ts';

export function encodeCbor(value: CborValue): Uint8Array<ArrayBuffer> {
  const pieces: Uint8Array[] = [];
  write(value, piece => void pieces.push(piece));
  return joined(pieces);
}

function write(value: CborValue, put: (piece: Uint8Array) => void): void {
  if (value === null || typeof value === 'boolean')
    return put(Uint8Array.of(value === null ? 0xf6 : value ? 0xf5 : 0xf4));
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return put(double(value));
  if (typeof value === 'number' || typeof value === 'bigint') return put(integer(value));
  if (typeof value === 'string') {
    const bytes = new TextEncoder().encode(value);
    put(head(3, bytes.length));
    return put(bytes);
  }
  if (value instanceof Uint8Array) {
    put(head(2, value.length));
    return put(value);
  }
  if (Array.isArray(value)) {
    put(head(4, value.length));
    for (const one of value) write(one, put);
    return;
  }
  const entries = Object.entries(value);
  put(head(5, entries.length));
  for (const [key, one] of entries) {
    write(key, put);
    write(one, put);
  }
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
  const bytes = new Uint8Array(1 + (1 << exponent));
  bytes[0] = (major << 5) | (24 + exponent);
  const view = new DataView(bytes.buffer);
  if (exponent === 0) view.setUint8(1, Number(size));
  else if (exponent === 1) view.setUint16(1, Number(size));
  else if (exponent === 2) view.setUint32(1, Number(size));
  else view.setBigUint64(1, size);
  return bytes;
}
