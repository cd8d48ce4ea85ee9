import { expect, test } from 'vitest';

import { type GrantedRole, type RoleName } from '../../api/rights.ts';
import { DAY, HOUR } from '../../format/time.ts';
import { expiryOf } from './expiry.ts';
import { isLoopback, shellLines, signInLink } from './invitation.ts';
import {
  canHave,
  canRead,
  heldRole,
  MAX_NAME,
  NAME_PATTERN,
  PROJECT_ROLES,
  roleInProject,
  tokenPrincipals,
} from './principals.ts';

function grant(principal: string, role: RoleName, project?: string): GrantedRole {
  return { principal, role, project, grantedUs: 0n, grantedBy: 'root' };
}

test('names of principals are those that the server accepts', () => {
  // As a browser reads the attribute.
  const pattern = new RegExp(`^(?:${NAME_PATTERN})$`, 'v');
  const isName = (name: string): boolean => pattern.test(name) && name.length <= MAX_NAME;
  const good = ['a', '0', 'ana', 'ana@example.org', 'service:ci', 'a.b+c_d-e', 'a'.repeat(128)];
  expect(good.filter(name => !isName(name))).toEqual([]);
  const bad = ['', 'Ana', ':a', 'a b', 'ä', 'a/b', 'a\n', 'a%2f', 'a'.repeat(129)];
  expect(bad.filter(isName)).toEqual([]);
});

test('anonymous can only become a viewer, and no one an operator of a project', () => {
  const grantable = (name: string): RoleName[] =>
    PROJECT_ROLES.map(({ role }) => role).filter(role => canHave(name, role));
  expect(grantable('ana')).toEqual(['ingest', 'viewer', 'writer', 'editor', 'owner']);
  expect(grantable('anonymous')).toEqual(['viewer']);
});

test('an owner creates tokens for the members of the project, an operator for all', () => {
  const grants = [
    grant('root', 'operator'),
    grant('ana', 'owner', 'speech'),
    grant('bo', 'viewer', 'speech'),
    grant('cy', 'viewer', 'speech'),
    grant('cy', 'writer'),
    grant('anonymous', 'viewer', 'speech'),
  ];
  const of = (caller: string): string[] =>
    tokenPrincipals(
      grants,
      caller,
      grants.filter(({ principal }) => principal === caller),
    );
  expect(of('ana')).toEqual(['ana', 'bo']);
  expect(of('cy')).toEqual(['ana', 'bo', 'cy']);
  expect(of('root')).toEqual(['root', 'ana', 'bo', 'cy']);
  expect(roleInProject(grants, 'cy')).toBe('viewer');
  expect(heldRole(grants, 'cy')).toBe('writer');
  expect(heldRole(grants, 'gone')).toBe('no role');
  expect(roleInProject(grants, 'root')).toBeUndefined();
});

test('a token without the right to read has no link for a browser', () => {
  const grants = [grant('ci', 'ingest', ''), grant('ana', 'editor', ''), grant('root', 'operator')];
  expect(canRead(grants, 'ci', undefined, '')).toBe(false);
  expect(canRead(grants, 'ana', undefined, '')).toBe(true);
  expect(canRead(grants, 'ana', 'ingest', '')).toBe(false);
  expect(canRead(grants, 'root', 'viewer', '')).toBe(true);
});

test('an invitation names the server, the project and the token', () => {
  const place = { origin: 'https://host', rootPath: '/matyan/p/speech/' };
  expect(shellLines(place, 'mtk_a')).toBe(
    'export MATYAN_BACKEND_URL=https://host/matyan/p/speech\nexport MATYAN_TOKEN=mtk_a',
  );
  expect(signInLink(place, 'mtl_a')).toBe('https://host/matyan/p/speech/sign-in#mtl_a');
  const whole = { origin: 'http://127.0.0.1:53800', rootPath: '/' };
  expect(shellLines(whole, 'mtk_a')).toContain('MATYAN_BACKEND_URL=http://127.0.0.1:53800\n');
  for (const [host, isHere] of [
    ['localhost', true],
    ['127.0.0.1', true],
    ['[::1]', true],
    ['127.example', false],
    ['tracker', false],
  ] as const)
    expect(isLoopback(host), host).toBe(isHere);
});

test('a token says two weeks before that it expires', () => {
  const now = Date.UTC(2026, 10, 28, 12);
  const check = (left: number, text: string, state: string): void =>
    expect(expiryOf(BigInt(now + left) * 1_000n, now)).toEqual({ text, state });
  check(-1, 'expired', 'expired');
  check(HOUR / 2, 'within an hour', 'soon');
  check(5 * HOUR, 'in 5 h', 'soon');
  check(14 * DAY, 'in 14 d', 'soon');
  expect(expiryOf(BigInt(now + 15 * DAY) * 1_000n, now).state).toBe('later');
  expect(expiryOf(undefined, now)).toEqual({ text: 'never', state: 'later' });
});
