/**
 * Free values as indented text. Unlike JSON it also has NaN, infinities, and integers of any size.
 */
import { isMap, type CborValue } from '../api/cbor.ts';
import { exact } from './number.ts';

export function exactValue(value: CborValue, indent = ''): string {
  if (isNumber(value)) return exact(value);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  const inner = `${indent}  `;
  const isList = Array.isArray(value);
  if (!isList && !isMap(value)) return JSON.stringify(value);
  const lines = isList
    ? value.map(one => exactValue(one, inner))
    : Object.entries(value).map(
        ([key, one]) => `${JSON.stringify(key)}: ${exactValue(one, inner)}`,
      );
  const [open, close] = isList ? ['[', ']'] : ['{', '}'];
  if (lines.length === 0) return open + close;
  return `${open}\n${inner}${lines.join(`,\n${inner}`)}\n${indent}${close}`;
}

export function isNumber(value: CborValue | undefined): value is number | bigint {
  return typeof value === 'number' || typeof value === 'bigint';
}

/** Texts as they are, nothing as nothing, and everything else exactly. */
export function plainText(value: CborValue | undefined): string {
  return value === undefined || typeof value === 'string' ? (value ?? '') : exactValue(value);
}

/**
 * A text that is equal for equal values only: it distinguishes 1 from "1", and knows NaN. A missing
 * value has an empty text.
 */
export function comparable(value: CborValue | undefined): string {
  return value === undefined ? '' : exactValue(value);
}
