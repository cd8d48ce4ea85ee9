import { fromBinary } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { EmptySchema } from '@bufbuild/protobuf/wkt';

/** Joins the pieces of a streamed value. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

/** Texts, bytes and messages of an encoded message, with the numbers of their fields. */
export function fieldsOf(message: Uint8Array): [field: number, bytes: Uint8Array][] {
  // All fields are unknown to an empty message.
  const all = fromBinary(EmptySchema, message).$unknown ?? [];
  const delimited = all.filter(({ wireType }) => wireType === WireType.LengthDelimited);
  return delimited.map(({ no, data }) => [no, new BinaryReader(data).bytes()]);
}
