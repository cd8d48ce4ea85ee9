/** The person who is signed in, and the roles and tokens of the project of this page. */
import { AccessService, Role, type PrincipalRole } from '../gen/matyan/access/v1/access_pb.ts';
import type { SignInProvider, TokenInfo } from '../gen/matyan/access/v1/access_pb.ts';
import { Urgency } from './read_queue.ts';
import type { GrantedRole, RoleName, TokenLimits } from './rights.ts';
import { client, limited, queued, serverTransport, unary } from './transport.ts';

const { method } = AccessService;

const NUMBERS: Record<RoleName, Role> = {
  monitor: Role.MONITOR,
  ingest: Role.INGEST,
  viewer: Role.VIEWER,
  writer: Role.WRITER,
  editor: Role.EDITOR,
  owner: Role.OWNER,
  operator: Role.OPERATOR,
};
const NAMES = new Map(Object.entries(NUMBERS).map(([name, role]) => [role, name as RoleName]));

export interface CallerInfo {
  principal: string;
  roles: GrantedRole[];
  /** The limits that the token of the caller puts on these roles. */
  limits: TokenLimits;
}

export interface AccessToken {
  id: string;
  principal: string;
  label: string;
  createdUs: bigint;
  createdBy: string;
  /** Undefined: it never expires. */
  expiresUs: bigint | undefined;
  /** The role that it is limited to; undefined: all roles of its principal. */
  limit: RoleName | undefined;
}

/** A new token, and its secret, which nothing returns again. */
export interface CreatedToken {
  token: AccessToken;
  secret: string;
}

export interface NewToken {
  principal: string;
  label: string;
  limit: RoleName | undefined;
  days: number;
}

const DAY_S = 24n * 60n * 60n;

/** Roles that a newer server may add are left out. */
function known(roles: readonly PrincipalRole[]): GrantedRole[] {
  return roles.flatMap(({ role, principal, project, grantedUs, grantedBy, provider, disabled }) => {
    const name = NAMES.get(role);
    const isDisabled = disabled;
    return name
      ? [{ role: name, principal, project, grantedUs, grantedBy, provider, isDisabled }]
      : [];
  });
}

function tokenOf({ role, ...token }: TokenInfo): AccessToken {
  const { id, principal, label, createdUs, createdBy, expiresUs } = token;
  return { id, principal, label, createdUs, createdBy, expiresUs, limit: NAMES.get(role) };
}

/** Reads the caller, after the content of the page. */
export function readCaller(): Promise<CallerInfo> {
  return queued('AccessService.GetCaller', Urgency.Refresh, undefined, async () => {
    const { principal, roles, tokenRole, tokenProject } = await client(
      AccessService,
      serverTransport,
    ).getCaller({}, limited());
    const limits = { role: NAMES.get(tokenRole), project: tokenProject };
    return { principal, roles: known(roles), limits };
  });
}

/** The roles in the project, and the roles in all projects. */
export async function readGrants(signal: AbortSignal): Promise<GrantedRole[]> {
  return known((await unary(method.listGrants, {}, signal)).grants);
}

/**
 * Gives a principal a role in the project, instead of its role there. Returns the providers of the server if the
 * name has the form of a name of another provider, so that nobody signs in by it.
 */
export async function grantRole(
  principal: string,
  role: RoleName,
): Promise<readonly SignInProvider[] | undefined> {
  const { unknownProvider } = await unary(method.grant, { principal, role: NUMBERS[role] });
  return unknownProvider?.providers;
}

export function revokeRole(principal: string): Promise<unknown> {
  return unary(method.revoke, { principal });
}

/** The tokens that are limited to the project. */
export async function readTokens(signal: AbortSignal): Promise<AccessToken[]> {
  return (await unary(method.listTokens, {}, signal)).tokens.map(tokenOf);
}

/** Creates a token that is limited to the project. Nothing returns its secret again. */
export async function createToken({
  principal,
  label,
  limit,
  days,
}: NewToken): Promise<CreatedToken> {
  const role = limit ? NUMBERS[limit] : Role.UNSPECIFIED;
  const lifetimeS = BigInt(days) * DAY_S;
  const created = await unary(method.createToken, { principal, label, role, lifetimeS });
  if (!created.token) throw new Error('the server has returned no token');
  return { token: tokenOf(created.token), secret: created.secret };
}

/** A link that signs one browser in, and was not opened yet. */
export interface AccessLink {
  id: string;
  principal: string;
  createdUs: bigint;
  createdBy: string;
  expiresUs: bigint;
  /** The role that its session is limited to; undefined: all roles of its principal. */
  limit: RoleName | undefined;
  /** The only host name under which it can be opened; empty: any. */
  host: string;
}

/** The links that are limited to the project. */
export async function readLinks(signal: AbortSignal): Promise<AccessLink[]> {
  const { links } = await unary(method.listLinks, {}, signal);
  return links.map(({ id, principal, createdUs, createdBy, expiresUs, role, host }) => {
    return { id, principal, createdUs, createdBy, expiresUs, limit: NAMES.get(role), host };
  });
}

export function revokeLink(id: string): Promise<unknown> {
  return unary(method.revokeLink, { id });
}

/** The secret of a new link, which nothing returns again. */
export interface CreatedLink {
  secret: string;
  expiresUs: bigint;
}

/**
 * Creates a link that signs a browser in once, in the project. `host`: the only name under which it
 * can be opened; empty: any.
 */
export async function createLink(
  principal: string,
  limit: RoleName | undefined,
  host: string,
): Promise<CreatedLink> {
  const role = limit ? NUMBERS[limit] : Role.UNSPECIFIED;
  const { secret, expiresUs } = await unary(method.createLink, { principal, role, host });
  return { secret, expiresUs };
}

export function revokeToken(id: string): Promise<unknown> {
  return unary(method.revokeToken, { id });
}
