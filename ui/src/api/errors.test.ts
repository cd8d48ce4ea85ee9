import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { Code, ConnectError } from '@connectrpc/connect';
import { expect, test } from 'vitest';

import { apiError, isAbort } from './errors.ts';

function withInfo(
  code: Code,
  message: string,
  reason: string,
  metadata: Record<string, string>,
): ConnectError {
  const writer = new BinaryWriter();
  writer
    .tag(1, WireType.LengthDelimited)
    .string(reason)
    .tag(2, WireType.LengthDelimited)
    .string('matyan');
  for (const [key, value] of Object.entries(metadata)) {
    writer.tag(3, WireType.LengthDelimited).fork();
    writer
      .tag(1, WireType.LengthDelimited)
      .string(key)
      .tag(2, WireType.LengthDelimited)
      .string(value)
      .join();
  }
  const error = new ConnectError(message, code);
  error.details = [{ type: 'google.rpc.ErrorInfo', value: writer.finish() }];
  return error;
}

test('an error says what, where and what to do', () => {
  const error = withInfo(Code.NotFound, 'run `x` does not exist', 'NOT_FOUND', {
    resource: 'run',
    id: 'x',
  });
  expect(apiError(error, 'RunService.Get')).toMatchObject({
    message: 'Run `x` does not exist.',
    where: 'RunService.Get',
    canRetry: false,
    reason: 'NOT_FOUND',
  });
});

test('an invalid query names its position', () => {
  const text = 'unexpected end (<query>, line 1)';
  const position = { line: '1', column: '13', end_column: '15' };
  const error = apiError(withInfo(Code.InvalidArgument, text, 'INVALID_QUERY', position), 'here');
  expect(error.message).toBe('Unexpected end.');
  expect(error.position).toEqual({ line: 1, column: 13, endColumn: 15 });
  expect(error.canRetry).toBe(false);
});

test('a lost network is not blamed on the reader', () => {
  const network = ConnectError.from(new TypeError('Failed to fetch'));
  for (const error of [network, new ConnectError('down', Code.Unavailable)]) {
    expect(apiError(error, 'here')).toMatchObject({
      message: 'The server cannot be reached.',
      canRetry: true,
    });
  }
});

test('an error keeps its first form', () => {
  const error = apiError(new Error('odd'), 'first');
  expect(apiError(error, 'second')).toBe(error);
  expect(error).toMatchObject({ message: 'Odd.', where: 'first', canRetry: true });
});

test('aborts are recognized in every form', () => {
  const aborted = new DOMException('gone', 'AbortError');
  expect(
    [aborted, new ConnectError('gone', Code.Canceled), apiError(aborted, 'x')].map(isAbort),
  ).toEqual([true, true, true]);
  expect(isAbort(new ConnectError('no', Code.Internal))).toBe(false);
});
