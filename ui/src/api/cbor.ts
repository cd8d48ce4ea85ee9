/**
 * Reads CBOR (RFC 8949), the form of params. Integers beyond 2^53 become BigInt, so that they stay
 * exact.
 */
export type CborValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | CborValue[]
  | { [key: string]: CborValue };

/** Returns a decoded map; any other value becomes an empty map. */
export function decodeMap(bytes: Uint8Array): { [key: string]: CborValue } {
  const value = bytes.length === 0 ? {} : decodeCbor(bytes);
  return isMap(value) ? value : {};
}

/** Like `decodeMap`, for one of several states: undefined if its bytes are damaged. */
export function tryDecodeMap(bytes: Uint8Array): { [key: string]: CborValue } | undefined {
  try {
    return decodeMap(bytes);
  } catch {
    return undefined;
  }
}

export function isMap(value: CborValue | undefined): value is { [key: string]: CborValue } {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Uint8Array)
  );
}

export function decodeCbor(bytes: Uint8Array): CborValue {
  const reader = new CborReader(bytes);
  const value = reader.value();
  if (reader.at !== bytes.length) throw new Error('CBOR: bytes after the end of the value');
  return value;
}

/** The members of a map with their bytes, so that some of them can be left out; any other value has none. */
export function mapMembers(bytes: Uint8Array): MapMember[] {
  return bytes.length === 0 ? [] : new CborReader(bytes).members();
}

/** A key of a map, and the bytes of the key and its value. */
export interface MapMember {
  name: string;
  bytes: Uint8Array;
}

/** The length of strings, lists and maps that end with a break. */
const INDEFINITE = -1;

class CborReader {
  at = 0;
  readonly #view: DataView;
  readonly #text = new TextDecoder();

  constructor(readonly bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  value(): CborValue {
    const head = this.#byte();
    const major = head >> 5;
    const info = head & 31;
    if (major === 7) return this.#simple(info);
    const argument = this.#argument(info);
    if (major === 0) return plain(argument);
    if (major === 1) return plain(-1n - BigInt(argument));
    const length = Number(argument);
    if (major === 2) return this.#bytesOf(length);
    if (major === 3) return this.#text.decode(this.#bytesOf(length));
    if (major === 4) return this.#list(length);
    return major === 5 ? this.#map(length) : tagged(length, this.value());
  }

  members(): MapMember[] {
    const head = this.#byte();
    const members: MapMember[] = [];
    if (head >> 5 !== 5) return members;
    const length = Number(this.#argument(head & 31));
    while (length === INDEFINITE ? !this.#ends() : members.length < length) {
      const start = this.at;
      const name = String(this.value());
      this.value();
      members.push({ name, bytes: this.bytes.subarray(start, this.at) });
    }
    return members;
  }

  #byte(): number {
    const byte = this.bytes[this.at++];
    if (byte === undefined) throw new Error('CBOR: the value is cut off');
    return byte;
  }

  #argument(info: number): number | bigint {
    if (info < 24) return info;
    if (info === 31) return INDEFINITE;
    const size = 1 << (info - 24);
    if (info > 27 || this.at + size > this.bytes.length)
      throw new Error('CBOR: the value is cut off');
    const at = this.at;
    this.at += size;
    if (size === 1) return this.#view.getUint8(at);
    if (size === 2) return this.#view.getUint16(at);
    return size === 4 ? this.#view.getUint32(at) : this.#view.getBigUint64(at);
  }

  #simple(info: number): CborValue {
    if (info === 20 || info === 21) return info === 21;
    if (info < 25 || info > 27) return null;
    const at = this.at;
    this.at += 1 << (info - 24);
    if (info === 25) return half(this.#view.getUint16(at));
    return info === 26 ? this.#view.getFloat32(at) : this.#view.getFloat64(at);
  }

  #bytesOf(length: number): Uint8Array {
    if (length === INDEFINITE) {
      const pieces: number[] = [];
      while (!this.#ends()) {
        const head = this.#byte();
        pieces.push(...this.#bytesOf(Number(this.#argument(head & 31))));
      }
      return Uint8Array.from(pieces);
    }
    if (this.at + length > this.bytes.length) throw new Error('CBOR: the value is cut off');
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  #list(length: number): CborValue[] {
    const list: CborValue[] = [];
    while (length === INDEFINITE ? !this.#ends() : list.length < length) list.push(this.value());
    return list;
  }

  #map(length: number): { [key: string]: CborValue } {
    const entries: [string, CborValue][] = [];
    while (length === INDEFINITE ? !this.#ends() : entries.length < length) {
      const key = this.value();
      entries.push([typeof key === 'string' ? key : String(key), this.value()]);
    }
    // Unlike an assignment this also takes the key `__proto__`.
    return Object.fromEntries(entries);
  }

  /** Skips the break that ends an item of indefinite length, if it is next. */
  #ends(): boolean {
    if (this.bytes[this.at] !== 0xff) return false;
    this.at += 1;
    return true;
  }
}

function plain(value: number | bigint): number | bigint {
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/** Tags 2 and 3 are integers of any size. */
function tagged(tag: number, value: CborValue): CborValue {
  if ((tag !== 2 && tag !== 3) || !(value instanceof Uint8Array)) return value;
  let number = 0n;
  for (const byte of value) number = (number << 8n) | BigInt(byte);
  return plain(tag === 2 ? number : -1n - number);
}

function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return (
    sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
  );
}
