/**
 * Writes CBOR (RFC 8949), limited to the types in the states of pages that the server keeps.
 * `cbor.ts` reads all of CBOR.
 */
import { joined } from './bytes.ts';

export type CborState = string | number | CborState[] | { [key: string]: CborState };

export function encodeCbor(value: CborState): Uint8Array<ArrayBuffer> {
  return joined(pieces(value));
}

/** A map of members that are encoded already. */
export function encodeMembers(members: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return joined([head(5, members.length), ...members]);
}

function pieces(value: CborState): Uint8Array[] {
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    return [Uint8Array.of(0xfb), new Uint8Array(Float64Array.of(value).buffer).reverse()];
  if (typeof value === 'number') return [head(value < 0 ? 1 : 0, value < 0 ? -1 - value : value)];
  if (typeof value === 'string') {
    const bytes = new TextEncoder().encode(value);
    return [head(3, bytes.length), bytes];
  }
  if (Array.isArray(value)) return [head(4, value.length), ...value.flatMap(pieces)];
  const entries = Object.entries(value);
  return [head(5, entries.length), ...entries.flat().flatMap(pieces)];
}

/** The major type with the shortest form of its argument. */
function head(major: number, argument: number): Uint8Array {
  if (argument < 24) return Uint8Array.of((major << 5) | argument);
  const exponent = argument < 2 ** 8 ? 0 : argument < 2 ** 16 ? 1 : argument < 2 ** 32 ? 2 : 3;
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(argument));
  return Uint8Array.of((major << 5) | (24 + exponent), ...bytes.subarray(8 - (1 << exponent)));
}
