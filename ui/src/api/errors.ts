/**
 * The only form of error in the UI: a message, a place, whether a retry may help, and the name of
 * the `Code` of the API.
 */
import { Code, ConnectError } from '@connectrpc/connect';

import { fieldsOf } from './bytes.ts';

/** Position of an error in a query, from 1. */
export interface QueryPosition {
  line: number;
  column: number;
  endColumn: number;
}

export class ApiError extends Error {
  override readonly name = 'ApiError';

  constructor(
    override readonly message: string,
    readonly where: string,
    readonly hint: string,
    readonly canRetry: boolean,
    /** Name of the API's code, such as `NOT_FOUND`; empty if the server sent none. */
    readonly reason: string,
    readonly position?: QueryPosition,
    override readonly cause?: unknown,
  ) {
    super(message, { cause });
  }
}

/**
 * Hints by the reason that the server names. An error with any other reason is described by its
 * gRPC status.
 */
const HINTS: Record<string, [hint: string, canRetry: boolean]> = {
  INVALID_FIELD: ['Correct the field and try again.', false],
  INVALID_QUERY: ['Correct the query.', false],
  QUERY_TOO_EXPENSIVE: ['Narrow the query, for example by experiment or tag.', false],
  TOO_LARGE: ['Ask for less at a time.', false],
  NOT_FOUND: ['It may have been deleted. Go back to the list.', false],
  CHANGED: ['Someone else has changed it. Reload the page, and try again.', false],
  ALREADY_EXISTS: ['Choose another name.', false],
  BUSY: ['Another process is using it. Try again later.', true],
  FINISHED: ['A finished trial never changes. Start another one.', false],
  POSITION_EXPIRED: ['The page was away for too long. Reload it.', true],
  INTERNAL: ['This is a defect of the server. Report it with the request id.', true],
};

const HINTS_BY_STATUS: Partial<Record<Code, [hint: string, canRetry: boolean]>> = {
  [Code.Unauthenticated]: ['Sign in, and try again.', false],
  [Code.PermissionDenied]: ['Ask for a role that allows it, or sign in as someone else.', false],
  [Code.Unimplemented]: [
    'The server is older than this page. Reload it, or upgrade the server.',
    false,
  ],
  [Code.DeadlineExceeded]: ['The server took too long. Try again, or ask for less.', true],
};

const UNREACHABLE = 'Check that the server is running and that the network works.';

/**
 * Describes an error. `where` names the place of an error that no call returned; an error of a call
 * names its method.
 */
export function apiError(error: unknown, where = 'This page'): ApiError {
  if (error instanceof ApiError) return error;
  const failure = ConnectError.from(error);
  const { reason, metadata } = errorInfo(failure);
  const known = HINTS[reason] ?? HINTS_BY_STATUS[failure.code];
  // Browsers report every failure of the network as a `TypeError`; Vite reports styles that failed
  // to load by this text.
  const isNetwork =
    failure.code === Code.Unknown &&
    (failure.cause instanceof TypeError || failure.rawMessage.startsWith('Unable to preload CSS'));
  const isUnreachable = reason === '' && (failure.code === Code.Unavailable || isNetwork);
  const [hint, canRetry] = known ?? [isUnreachable ? UNREACHABLE : 'Try again.', true];
  const message = isUnreachable ? 'The server cannot be reached.' : sentence(failure.rawMessage);
  return new ApiError(message, where, hint, canRetry, reason, position(metadata), error);
}

/** The gRPC status of a failed call; undefined for an error that no call returned. */
export function statusOf(error: unknown): Code | undefined {
  if (error instanceof ApiError) return statusOf(error.cause);
  return error instanceof ConnectError ? error.code : undefined;
}

/**
 * Returns whether a call ended because its result is no longer wanted, which is no error for the
 * reader.
 */
export function isAbort(error: unknown): boolean {
  if (error instanceof ApiError) return isAbort(error.cause);
  if (error instanceof ConnectError && error.code === Code.Canceled) return true;
  return error instanceof Error && error.name === 'AbortError';
}

function sentence(text: string): string {
  // The field of the query shows where it is invalid.
  const trimmed = text.replace(/\(<query>, line \d+\)$/, '').trim() || 'The call failed';
  const start = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}

function position(metadata: Record<string, string>): QueryPosition | undefined {
  const [line, column, endColumn] = ['line', 'column', 'end_column'].map(name =>
    Number(metadata[name]),
  );
  return line && column ? { line, column, endColumn: endColumn || column + 1 } : undefined;
}

/**
 * Reads `google.rpc.ErrorInfo` if the details have it: reason (1), domain (2), and metadata (3), a
 * map of texts.
 */
function errorInfo({ details }: ConnectError): {
  reason: string;
  metadata: Record<string, string>;
} {
  const info = { reason: '', metadata: {} as Record<string, string> };
  const text = new TextDecoder();
  for (const detail of details) {
    if (!('type' in detail) || detail.type !== 'google.rpc.ErrorInfo') continue;
    for (const [field, value] of fieldsOf(detail.value)) {
      if (field === 1) info.reason = text.decode(value);
      if (field !== 3) continue;
      const entry = new Map(fieldsOf(value).map(([part, of]) => [part, text.decode(of)]));
      info.metadata[entry.get(1) ?? ''] = entry.get(2) ?? '';
    }
  }
  return info;
}
