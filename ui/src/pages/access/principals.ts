/** Rules for the names of principals, and for what an owner may do about them. */
import { ANONYMOUS, hasRight, ROLES, type GrantedRole, type RoleName } from '../../api/rights.ts';

/** As the server checks it: for the attribute `pattern` of a field. */
export const NAME_PATTERN = '[a-z0-9][a-z0-9\\-_.@+:]*';
export const MAX_NAME = 128;
export const NAME_RULE =
  'Lowercase letters, digits, - _ . @ + and :, beginning with a letter or a digit';

export const MAX_DAYS = 366;
export const DEFAULT_DAYS = 90;

/** The roles that can be granted in a project, and what each is for. */
export const PROJECT_ROLES: readonly { role: RoleName; may: string }[] = [
  { role: 'ingest', may: 'sends data, and reads nothing: for training nodes' },
  { role: 'viewer', may: 'reads' },
  { role: 'writer', may: 'reads and sends data' },
  { role: 'editor', may: 'also changes and deletes runs, tags, notes, dashboards and reports' },
  { role: 'owner', may: 'also changes and deletes the project, grants roles and creates tokens' },
];

/**
 * The warning after a grant to a name such as `gitlab:ana`, if the server has other providers, or
 * none.
 */
export function unknownProviderText(
  name: string,
  providers: readonly { id: string; title: string }[],
): string {
  const known = providers.map(({ id, title }) => `${id}: (${title})`).join(' or ');
  const reason = known
    ? `names of people who sign in with a provider begin with ${known} here`
    : 'this server has no provider with which people sign in';
  return `Nobody signs in as ${name}: ${reason}. The role is granted, and ${name} can use links and tokens.`;
}

/** Whether a principal can have a role: everyone who can connect can only become a viewer. */
export function canHave(principal: string, role: RoleName): boolean {
  return principal !== ANONYMOUS || role === 'viewer';
}

/** The role that a principal has in the project itself. */
export function roleInProject(
  grants: readonly GrantedRole[],
  principal: string,
): RoleName | undefined {
  return grants.find(grant => grant.principal === principal && grant.project !== undefined)?.role;
}

/** The larger one of the roles that a principal has in the project and in all projects. */
export function heldRole(grants: readonly GrantedRole[], principal: string): string {
  const held = grants.filter(grant => grant.principal === principal).map(({ role }) => role);
  return ROLES.findLast(role => held.includes(role)) ?? 'no role';
}

/**
 * Principals for which the caller can create a token of the project. With the token of a principal
 * that has a role in all projects, an owner could act under the name of an operator.
 */
export function tokenPrincipals(
  grants: readonly GrantedRole[],
  caller: string,
  own: readonly GrantedRole[],
): string[] {
  const isOperator = own.some(({ role }) => role === 'operator');
  const isEverywhere = new Set(
    grants.filter(({ project }) => project === undefined).map(({ principal }) => principal),
  );
  const names = new Set(grants.map(({ principal }) => principal));
  return [...names].filter(
    name => name !== ANONYMOUS && (name === caller || isOperator || !isEverywhere.has(name)),
  );
}

/** Whether a token of a principal shows anything in a browser. */
export function canRead(
  grants: readonly GrantedRole[],
  principal: string,
  limit: RoleName | undefined,
  project: string,
): boolean {
  const own = grants.filter(grant => grant.principal === principal);
  const isLimited = limit !== undefined && !hasRight([{ role: limit, project }], 'read', project);
  return !isLimited && hasRight(own, 'read', project);
}
