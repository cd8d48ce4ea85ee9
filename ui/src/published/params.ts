/** Params of copied runs, as a server sends them to tables. */

/** Members that a server sends only to those who ask for them. */
const OF_THE_SYSTEM = ['__system_params', '__metrics__', '__progress__'];
const MAP = 5;
const TAG = 6;
/** Strings of bytes and of text, whose argument is their length. */
const STRINGS = [2, 3];
const LIST = 4;

/** The params without those of the system. A copy has CBOR whose lengths are all stated. */
export function ownParams(params: Uint8Array): Uint8Array<ArrayBuffer> {
  const { major, argument, at } = headOf(params, 0);
  const kept: Uint8Array[] = [];
  let count = 0;
  let next = at;
  for (let member = 0; major === MAP && member < argument; member++) {
    const value = endOf(params, next);
    const end = endOf(params, value);
    const { at: start } = headOf(params, next);
    const name = new TextDecoder().decode(params.subarray(start, value));
    if (!OF_THE_SYSTEM.includes(name)) {
      kept.push(params.subarray(next, end));
      count += 1;
    }
    next = end;
  }
  const head = mapHead(count);
  const all = new Uint8Array(kept.reduce((sum, { length }) => sum + length, head.length));
  all.set(head);
  let to = head.length;
  for (const piece of kept) {
    all.set(piece, to);
    to += piece.length;
  }
  return all;
}

/** The major type of an item, its argument, and where the head ends. */
function headOf(bytes: Uint8Array, at: number): { major: number; argument: number; at: number } {
  const head = bytes[at] ?? 0;
  const info = head & 31;
  const size = info < 24 ? 0 : 1 << (info - 24);
  let argument = size === 0 ? info : 0;
  for (const byte of bytes.subarray(at + 1, at + 1 + size)) argument = argument * 256 + byte;
  return { major: head >> 5, argument, at: at + 1 + size };
}

/** Where an item ends. */
function endOf(bytes: Uint8Array, from: number): number {
  const { major, argument, at } = headOf(bytes, from);
  if (STRINGS.includes(major)) return at + argument;
  const items = { [LIST]: argument, [MAP]: 2 * argument, [TAG]: 1 }[major] ?? 0;
  let end = at;
  for (let item = 0; item < items; item++) end = endOf(bytes, end);
  return end;
}

function mapHead(count: number): Uint8Array {
  if (count < 24) return Uint8Array.of((MAP << 5) | count);
  const bytes = new Uint8Array(5);
  bytes[0] = (MAP << 5) | 26;
  new DataView(bytes.buffer).setUint32(1, count);
  return bytes;
}
