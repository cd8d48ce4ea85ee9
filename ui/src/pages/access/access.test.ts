import { expect, test } from 'vitest';

import { create } from '@bufbuild/protobuf';
import type { AuditPage } from '../../api/audit.ts';
import { AuditEntrySchema } from '../../gen/matyan/access/v1/audit_pb.ts';
import { decode } from '../../state/url.ts';
import { schemas } from '../../state/routes.ts';
import {
  aboutText,
  auditQuery,
  callParts,
  callText,
  isFiltered,
  NO_FILTERS,
  originText,
  outcomeText,
  readSome,
} from './audit_log.ts';
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
  unknownProviderText,
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

test('a name of a provider that the server does not have leads to its providers', () => {
  const gitlab = { id: 'oidc', title: 'GitLab' };
  expect(unknownProviderText('gitlab:ana', [gitlab])).toContain('begin with oidc: (GitLab) here');
  expect(unknownProviderText('oidc:ana', [])).toContain('this server has no provider');
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

test('the address of the audit log names its entries', () => {
  const of = (query: string, mayOperate = false) =>
    auditQuery(decode(schemas.audit, query), mayOperate);
  expect(of('')).toEqual({
    everywhere: false,
    principal: '',
    rpc: '',
    resource: '',
    failed: false,
    sinceUs: undefined,
    untilUs: undefined,
  });
  const whole = of(
    '?principal=+ana&call=Grant&about=bo&failed=1&from=2026-11-28&to=2026-11-29&everywhere=1',
  );
  expect(whole).toMatchObject({ principal: 'ana', rpc: 'Grant', resource: 'bo', failed: true });
  // The days are days of the reader, and the last day is included.
  expect(whole.sinceUs).toBe(BigInt(new Date(2026, 10, 28).getTime()) * 1_000n);
  expect(whole.untilUs).toBe(BigInt(new Date(2026, 10, 30).getTime()) * 1_000n);
  // Only operators see all projects, whatever the address says.
  expect([whole.everywhere, of('?everywhere=1', true).everywhere]).toEqual([false, true]);
  expect(of('?from=2026-02-30&to=soon')).toMatchObject({ sinceUs: undefined, untilUs: undefined });
  for (const query of ['?principal=a', '?call=a', '?about=a', '?failed=1', '?from=2026-01-01'])
    expect(isFiltered(of(query)), query).toBe(true);
  expect(isFiltered(of('?everywhere=1', true))).toBe(false);
  const cleared = {
    ...decode(schemas.audit, '?principal=a&failed=1&to=2026-01-01'),
    ...NO_FILTERS,
  };
  expect(isFiltered(auditQuery(cleared, false))).toBe(false);
});

test('a rare entry of the audit log is looked for in several pages, and not in all at once', async () => {
  const entry = create(AuditEntrySchema, { rpc: 'sign-in' });
  const log = (found: number, length: number) => {
    const cursors: string[] = [];
    const read = async (cursor: string): Promise<AuditPage> => {
      cursors.push(cursor);
      const at = cursors.length;
      return { entries: at === found ? [entry] : [], nextCursor: at === length ? '' : `${at}` };
    };
    return { cursors, read };
  };
  const third = log(3, 9);
  expect(await readSome(third.read, 'start')).toEqual({ entries: [entry], nextCursor: '3' });
  expect(third.cursors).toEqual(['start', '1', '2']);
  const short = log(0, 2);
  expect(await readSome(short.read, '')).toEqual({ entries: [], nextCursor: '' });
  expect(short.cursors).toEqual(['', '1']);
  const long = log(99, 100);
  expect(await readSome(long.read, '')).toEqual({ entries: [], nextCursor: '5' });
});

test('an entry of the audit log is shown in short words', () => {
  expect(callText('access.v1.AccessService/Grant')).toBe('AccessService/Grant');
  expect(callParts('access.v1.AccessService/Grant')).toEqual({
    name: 'Grant',
    service: 'AccessService',
  });
  expect(callParts('sign-in')).toEqual({ name: 'sign-in', service: '' });
  const about = (rpc: string, resource: string, outcome: string): string =>
    aboutText({ rpc, resource, outcome });
  expect(about('access.v1.AccessService/Grant', 'bo owner', 'OK')).toBe('bo owner');
  expect(about('access.v1.AccessService/Grant', '', 'PERMISSION_DENIED')).toBe('not read');
  expect(about('access.v1.AccessService/Grant', '', 'NOT_FOUND')).toBe('');
  expect(about('sign-in', '', 'PERMISSION_DENIED')).toBe('');
  expect(outcomeText('PERMISSION_DENIED')).toBe('permission denied');
  expect(originText('10.0.0.7', '0123456789abcdef')).toBe('10.0.0.7 · token 01234567');
  expect(originText('', '')).toBe('');
});
