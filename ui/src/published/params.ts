/** Params of copied runs, as a server sends them to tables. */
import { mapMembers } from '../api/cbor.ts';
import { encodeMembers } from '../api/cbor_writer.ts';
import { SYSTEM_KEYS } from '../format/system_params.ts';

/** The params without those that a server sends only to callers who ask for them. */
export function ownParams(params: Uint8Array): Uint8Array<ArrayBuffer> {
  const kept = mapMembers(params).filter(({ name }) => !SYSTEM_KEYS.includes(name));
  return encodeMembers(kept.map(({ bytes }) => bytes));
}
