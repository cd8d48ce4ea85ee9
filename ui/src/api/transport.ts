/**
 * Clients of the server that this page came from, or of the files of a published copy. gRPC-web carries
 * everything but the payloads of `media.ts`.
 */
import type {
  DescMessage,
  DescMethodUnary,
  DescService,
  MessageInitShape,
} from '@bufbuild/protobuf';
import type { MessageShape } from '@bufbuild/protobuf';
import {
  Code,
  ConnectError,
  createClient,
  type CallOptions,
  type Client,
  type Interceptor,
  type Transport,
} from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';

import { apiError } from './errors.ts';
import { published } from './published.ts';
import { reads, Urgency } from './read_queue.ts';
import { serverClock } from './server_clock.ts';
import { signIn } from './sign_in.ts';

/**
 * Path under which the server is exposed, with a trailing slash. The index page names it in its
 * base element.
 */
export const rootPath: string = (() => {
  const base = globalThis.document?.querySelector('base');
  return base ? new URL('..', base.href).pathname : '/';
})();

/** Name of the project of this page; empty for the default project. */
export const projectName: string = decodeURIComponent(/\/p\/([^/]+)\/$/.exec(rootPath)?.[1] ?? '');

export const serverPath = rootPath.replace(/\/p\/[^/]+\/$/, '/');

/** Nothing that a reader waits for takes longer. Streams that follow something have no deadline. */
const DEADLINE_MS = 60_000;

/** Notes the time of the server, and leads to the sign-in page when no one is signed in. */
const callInterceptor: Interceptor = next => async request => {
  try {
    const response = await next(request);
    serverClock.note(response.header.get('date'));
    return response.stream ? { ...response, message: watched(response.message) } : response;
  } catch (error) {
    throw leaveIfSignedOut(error);
  }
};

/** A stream also ends when the token of its reader is revoked. */
async function* watched<M>(messages: AsyncIterable<M>): AsyncGenerator<M> {
  try {
    yield* messages;
  } catch (error) {
    throw leaveIfSignedOut(error);
  }
}

function leaveIfSignedOut(error: unknown): unknown {
  if (error instanceof ConnectError && error.code === Code.Unauthenticated)
    signIn.onRefused(serverPath);
  return error;
}

const readCopy = () => import('../published/transport.ts');
/** Its code is loaded with the first call. */
const copyTransport: Transport = {
  unary: async (...call) => (await readCopy()).publishedTransport.unary(...call),
  stream: async (...call) => (await readCopy()).publishedTransport.stream(...call),
};

export const transport = transportTo(rootPath);
export const serverTransport = transportTo(serverPath);

function transportTo(path: string): Transport {
  if (published) return copyTransport;
  return createGrpcWebTransport({
    baseUrl: `${globalThis.location?.origin ?? 'http://127.0.0.1:53800'}${path}`.replace(/\/$/, ''),
    // The fetch API of the page, looked up for each call, so that tests can observe it.
    fetch: (input, init) => globalThis.fetch(input, init),
    interceptors: [callInterceptor],
  });
}

export function client<S extends DescService>(service: S, to = transport): Client<S> {
  return createClient(service, to);
}

/**
 * Options of a call that must end: a deadline, and the signal of the place that shows its result.
 */
export function limited(signal?: AbortSignal): CallOptions {
  return { signal, timeoutMs: DEADLINE_MS };
}

export function queued<T>(
  where: string,
  urgency: Urgency,
  signal: AbortSignal | undefined,
  run: () => Promise<T>,
): Promise<T> {
  return reads.run(urgency, signal, () =>
    run().catch(error => Promise.reject(apiError(error, where))),
  );
}

export function unary<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  signal?: AbortSignal,
  to = transport,
): Promise<MessageShape<O>> {
  return queued(`${method.parent.name}.${method.name}`, Urgency.Visible, signal, async () => {
    return (await to.unary(method, signal, DEADLINE_MS, undefined, request)).message;
  });
}

/** All of a stream, from the part of each message that `pick` returns. */
export async function gathered<M, T>(
  stream: AsyncIterable<M>,
  pick: (message: M) => Iterable<T>,
): Promise<T[]> {
  const all: T[] = [];
  for await (const message of stream) for (const one of pick(message)) all.push(one);
  return all;
}
