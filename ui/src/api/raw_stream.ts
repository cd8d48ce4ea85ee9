/**
 * Streams of messages that are not decoded: an empty message keeps all fields of a response as
 * unknown fields, which are bytes.
 */
import type { DescMessage, DescMethodServerStreaming, MessageShape } from '@bufbuild/protobuf';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { EmptySchema } from '@bufbuild/protobuf/wkt';
import type { CallOptions } from '@connectrpc/connect';

import { transport } from './transport.ts';

/** Yields the encoded messages in field number 1 of each response. */
export async function* rawMessages<I extends DescMessage>(
  method: DescMethodServerStreaming<I, DescMessage>,
  request: MessageShape<I>,
  { signal, timeoutMs }: CallOptions,
): AsyncGenerator<Uint8Array> {
  const raw: DescMethodServerStreaming<I, typeof EmptySchema> = { ...method, output: EmptySchema };
  const input = (async function* () {
    yield request as never;
  })();
  const response = await transport.stream(raw, signal, timeoutMs, undefined, input);
  for await (const message of response.message) {
    for (const { no, data } of message.$unknown ?? [])
      if (no === 1) yield new BinaryReader(data).bytes();
  }
}
