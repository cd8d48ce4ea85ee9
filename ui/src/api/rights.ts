/**
 * The rights of each role, and where they hold: a copy of `Role::rights` in
 * libs/access/src/right.rs. The server decides; the UI hides what the server would refuse.
 */

/** From the least role to the largest one. */
export const ROLES = [
  'monitor',
  'ingest',
  'viewer',
  'writer',
  'editor',
  'owner',
  'operator',
] as const;
export type RoleName = (typeof ROLES)[number];

/** `operate` and `monitor` are rights in the whole server; the others are rights in a project. */
export type Right = 'read' | 'ingest' | 'edit' | 'manage' | 'operate' | 'monitor';

const RIGHTS: Record<RoleName, readonly Right[]> = {
  monitor: ['monitor'],
  ingest: ['ingest'],
  viewer: ['read'],
  writer: ['read', 'ingest'],
  editor: ['read', 'ingest', 'edit'],
  owner: ['read', 'ingest', 'edit', 'manage'],
  operator: ['read', 'ingest', 'edit', 'manage', 'operate', 'monitor'],
};

/** The principal that stands for everyone who sends no token. */
export const ANONYMOUS = 'anonymous';

export interface GrantedRole {
  principal: string;
  role: RoleName;
  /** Name of the project, empty for the default project; undefined for a role in all projects. */
  project: string | undefined;
  grantedUs: bigint;
  grantedBy: string;
  /** The provider whose groups give the role; empty if someone has granted it. */
  provider?: string;
  /** Whether the principal is disabled, so that the role permits nothing. */
  isDisabled?: boolean;
}

/** The part of its principal's roles that a token has. */
export interface TokenLimits {
  /** The largest role; undefined for all roles. */
  role: RoleName | undefined;
  /** The only project, empty for the default project; undefined for all projects. */
  project: string | undefined;
}

export const NO_LIMITS: TokenLimits = { role: undefined, project: undefined };

type Held = Pick<GrantedRole, 'role' | 'project'>;

/** Whether a role has a right. */
export function permits(role: RoleName, right: Right): boolean {
  return RIGHTS[role].includes(right);
}

/** Whether one of some roles has a right in a project. */
export function hasRight(roles: readonly Held[], right: Right, project: string): boolean {
  return roles.some(
    held => permits(held.role, right) && (held.project === undefined || held.project === project),
  );
}

/** Whether the limits of a token leave a right in a project. A token for one project operates nothing. */
export function leaves(
  { role, project: only }: TokenLimits,
  right: Right,
  project: string,
): boolean {
  const isInstance = right === 'operate' || right === 'monitor';
  const isInProject = only === undefined || (!isInstance && only === project);
  return isInProject && (role === undefined || permits(role, right));
}

/** A role with its place, such as `editor of speech`. */
export function roleText({ role, project }: Held): string {
  const preposition = role === 'ingest' ? 'in' : 'of';
  if (role === 'operator' || role === 'monitor') return `${role} of this server`;
  if (project === undefined) return `${role} ${preposition} all projects`;
  return `${role} ${preposition} ${project || 'the default project'}`;
}
