/**
 * A provider of OpenID Connect: the certified implementation `oidc-provider`, in this process. Everyone signs in with a
 * name and any password, and is in the groups that the test says.
 */
import { createServer, type RequestListener, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** The folder of the package, if it is installed. */
export const PACKAGE = process.env.MATYAN_OIDC_PROVIDER;

/** The part of the package that is used here. */
interface ProviderPackage {
  default: new (issuer: string, configuration: object) => { callback: () => RequestListener };
}

export const CLIENT_ID = 'matyan';
export const CLIENT_SECRET = 'a secret of the tests';

export class OidcProvider {
  /** Groups by the name of a person. */
  readonly groups = new Map<string, string[]>();
  #answer: RequestListener = (_, response) => response.writeHead(503).end();

  private constructor(readonly server: HttpServer) {}

  /** Listens, and answers nothing before it knows its client. */
  static async listen(): Promise<OidcProvider> {
    const server = createServer((request, response) => provider.#answer(request, response));
    const provider = new OidcProvider(server);
    await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
    return provider;
  }

  get issuer(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Serves a client at this address. */
  async serve(client: string): Promise<void> {
    const code = pathToFileURL(join(PACKAGE!, 'lib', 'index.js')).href;
    const { default: Provider } = (await import(code)) as ProviderPackage;
    const provider = new Provider(this.issuer, {
      clients: [
        {
          client_id: CLIENT_ID,
          client_secret: CLIENT_SECRET,
          redirect_uris: [`${client}/sign-in/callback`],
        },
      ],
      claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
      // The groups are in the ID token, as with most providers.
      conformIdTokenClaims: false,
      cookies: { keys: ['a key of the tests'] },
      findAccount: (_: unknown, id: string) => ({
        accountId: id,
        claims: () => ({
          sub: id,
          email: `${id}@example.org`,
          email_verified: true,
          groups: this.groups.get(id) ?? [],
        }),
      }),
    });
    this.#answer = provider.callback();
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise(done => this.server.close(done));
  }
}
