/** Calls with a token to a server with access control. */
import type { DescService } from '@bufbuild/protobuf';
import { createClient, type Client } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';

/** A client that sends a token. `baseUrl` is the address of a server, or of a project on it. */
export function clientOf<S extends DescService>(
  service: S,
  token: string,
  baseUrl: string,
): Client<S> {
  const transport = createGrpcWebTransport({
    baseUrl,
    interceptors: [
      next => request => {
        request.header.set('authorization', `Bearer ${token}`);
        return next(request);
      },
    ],
  });
  return createClient(service, transport);
}
