/** The texts with which the owner of a new token uses it. */

/** Where this server and this project are. */
export interface Place {
  origin: string;
  /** Path of the project, with a trailing slash. */
  rootPath: string;
}

/** Lines for a shell, as `matyan access invite` prints them. */
export function shellLines({ origin, rootPath }: Place, secret: string): string {
  const url = origin + rootPath.replace(/\/$/, '');
  return `export MATYAN_BACKEND_URL=${url}\nexport MATYAN_TOKEN=${secret}`;
}

/**
 * A link to the sign-in page, which reads the secret from the fragment. Browsers send a fragment to
 * no server, so the secret is in no log.
 */
export function signInLink({ origin, rootPath }: Place, secret: string): string {
  return `${origin}${rootPath}sign-in#${secret}`;
}

/** Whether an address names the local machine, so that it leads each reader to another one. */
export function isLoopback(hostname: string): boolean {
  return /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}
