/**
 * Memory for columns. A browser takes some 5 µs to allocate an `ArrayBuffer`, however small, which
 * is longer than filling it takes. So columns share a buffer, which is freed with its last column;
 * the columns of a chart are read, kept and dropped together.
 */

/** The columns of about three series of 500 buckets. */
const SHARED_BYTES = 64 * 1024;

let buffer = new ArrayBuffer(0);
let used = 0;

/** Returns the offset of some bytes in the current buffer, aligned for doubles. */
function reserve(bytes: number): number {
  if (used + bytes > buffer.byteLength) {
    buffer = new ArrayBuffer(Math.max(bytes, SHARED_BYTES));
    used = 0;
  }
  const offset = used;
  used += Math.ceil(bytes / 8) * 8;
  return offset;
}

/** Returns numbers that are not zeroed: the caller sets all of them. */
export function newDoubles(length: number): Float64Array {
  const offset = reserve(length * 8);
  return new Float64Array(buffer, offset, length);
}

/** Returns numbers that are not zeroed: the caller sets all of them. */
export function newUints(length: number): Uint32Array {
  const offset = reserve(length * 4);
  return new Uint32Array(buffer, offset, length);
}

let scratch = new Float64Array(4096);

/**
 * Room for numbers until the next call, for columns whose length is known at their end only. The
 * room is not zeroed.
 */
export function scratchFor(length: number): Float64Array {
  if (scratch.length < length) scratch = new Float64Array(2 * length);
  return scratch;
}

let zeros = new Uint32Array(1024);

/** Zeros that many series share; never written to. */
export function sharedZeros(length: number): Uint32Array {
  if (zeros.length < length) zeros = new Uint32Array(2 * length);
  return zeros.subarray(0, length);
}
