/**
 * Access control in Chromium: readers sign in with a token, see what their roles permit, and owners give others roles
 * and tokens. A server without access control shows nothing of it.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { createClient, ConnectError, type Client } from '@connectrpc/connect';
import { create, toBinary, type DescService } from '@bufbuild/protobuf';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { AccessService, Role } from '../src/gen/matyan/access/v1/access_pb.ts';
import { ExperimentService } from '../src/gen/matyan/experiments/v1/experiments_pb.ts';
import { IngestionBatchSchema } from '../src/gen/matyan/ingest/v1/batch_pb.ts';
import { IngestService } from '../src/gen/matyan/ingest/v1/ingest_pb.ts';
import { ProjectService } from '../src/gen/matyan/project/v1/project_pb.ts';
import { ReportService } from '../src/gen/matyan/reports/v1/reports_pb.ts';
import { clientOf } from './client_of.ts';
import {
  eventually,
  findings,
  launch,
  Server,
  tabTo,
  Visit,
  type VisitOptions,
} from './harness.ts';
import { secretsInData, secretsInOutput } from './secrets_at_rest.ts';

/** A change of a role or a token is in force after 30 s at the latest. */
const CHANGE_MS = 40_000;

let browser: Browser;
let server: Server;
let operator: string;
let owner: string;
let viewer: string;

beforeAll(async () => {
  [browser, server] = await Promise.all([launch(), Server.start({ hasAccess: true })]);
  operator = await server.operatorToken();
  await api(ProjectService, operator, '').create({ name: 'speech', displayName: 'Speech' });
  owner = await invite('olga', Role.OWNER);
  viewer = await invite('vera', Role.VIEWER);
});

afterAll(async () => {
  await browser?.close();
  await server?.remove();
});

/** Calls of the project, or of the whole server, with a token. */
function api<S extends DescService>(
  service: S,
  token: string,
  path = '/p/speech',
  origin = server.addresses.query,
): Client<S> {
  return clientOf(service, token, origin + path);
}

/** Gives someone a role in the project, and returns a token. */
async function invite(principal: string, role: Role): Promise<string> {
  const access = api(AccessService, operator);
  await access.grant({ principal, role });
  const { secret } = await access.createToken({ principal, label: `browser of ${principal}` });
  return secret;
}

async function signIn(page: Page, token: string): Promise<void> {
  await page.waitForURL(/\/sign-in\?/);
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

/** Opens a page by way of the sign-in page, and fails if anything went wrong on it. */
async function visit(
  token: string,
  path: string,
  use: (visit: Visit) => Promise<void>,
  options?: VisitOptions,
): Promise<void> {
  const open = await Visit.open(browser, server, path, options);
  try {
    await signIn(open.page, token);
    await open.page.waitForURL(url => url.pathname === path.replace(/[?#].*/, ''));
    await use(open);
  } catch (error) {
    await open.shot('failed-access');
    open.errors.unshift(String(error));
    throw error;
  }
  await open.close();
}

const account = (page: Page) => page.getByRole('button', { name: /^Signed in as / });

test('a reader signs in, sees name and roles, and signs out', async () => {
  await visit(owner, '/p/speech/runs?q=run.name+%3D%3D+%22a%22', async one => {
    const { page } = one;
    expect(new URL(page.url()).search).toBe('?q=run.name+%3D%3D+%22a%22');
    await account(page).waitFor();
    expect(await account(page).textContent()).toBe('olga');
    await tabTo(page, '[aria-label="Signed in as olga"]');
    await page.keyboard.press('Enter');
    expect(await page.getByRole('list', { name: 'Your roles' }).textContent()).toBe(
      'owner of speech',
    );
    expect(await findings(page)).toEqual([]);
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Access', exact: true }).waitFor();
    expect(new URL(page.url()).pathname).toBe('/p/speech/access');
    await account(page).click();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.waitForURL(/\/sign-in\?reason=signed-out$/);
    await page.getByText('You are signed out.').waitFor();
    // The cookie is gone.
    await page.goto(`${one.base}/p/speech/runs`);
    await page.waitForURL(/\/sign-in\?next=/);
    one.errors.splice(0);
  });
});

test('a page whose token is revoked stays open, leads to the sign-in page, and back', async () => {
  const token = await invite('temp', Role.VIEWER);
  await visit(token, '/p/speech/experiments', async one => {
    const { page } = one;
    await account(page).waitFor();
    const { tokens } = await api(AccessService, operator).listTokens({});
    const { id } = tokens.find(({ principal }) => principal === 'temp')!;
    await api(AccessService, operator).revokeToken({ id });
    const banner = page.getByRole('alert').filter({ hasText: 'Your session has ended' });
    await banner.waitFor({ timeout: CHANGE_MS });
    expect(new URL(page.url()).pathname).toBe('/p/speech/experiments');
    const signedOut = page.locator('.stream').getByRole('link', { name: 'Signed out' });
    expect(await signedOut.getAttribute('href')).toContain('/sign-in?next=');
    expect(await page.locator('.stream.bad').count()).toBe(0);
    expect(await findings(page)).toEqual([]);
    await one.shot('access-ended');
    await banner.getByRole('link', { name: 'sign in' }).click();
    await page.waitForURL(/\/sign-in\?next=%2Fp%2Fspeech%2Fexperiments&reason=ended$/);
    await page.getByText('Your session has ended, or its token was revoked').waitFor();
    await signIn(page, viewer);
    await page.waitForURL(/\/p\/speech\/experiments$/);
    await account(page).getByText('vera').waitFor();
    one.errors.splice(0);
  });
});

test('an owner grants, changes and revokes a role', async () => {
  await visit(owner, '/p/speech/project', async one => {
    const { page } = one;
    await page.getByRole('link', { name: 'Members and tokens' }).click();
    const members = page.getByRole('table', { name: 'Members' });
    const memberOf = (name: string) => members.getByRole('row').filter({ hasText: name });
    await memberOf('olga').getByText('(you)').waitFor();
    await memberOf('operator').getByText('of all projects').waitFor();
    await page.getByRole('button', { name: 'Grant a role' }).click();
    const grant = page.getByRole('dialog', { name: 'Grant a role' });
    const field = grant.getByLabel('Name of a person or a service');
    await field.fill('Ana');
    await page.keyboard.press('Enter');
    expect(await field.evaluate((input: HTMLInputElement) => input.validity.patternMismatch)).toBe(
      true,
    );
    expect(await field.evaluate((input: HTMLInputElement) => input.validationMessage)).toMatch(
      /^Lowercase letters/,
    );
    await field.fill('anonymous');
    expect(await grant.getByRole('radio', { name: /^owner/ }).isDisabled()).toBe(true);
    await field.fill('ana');
    await grant.getByRole('radio', { name: /^writer/ }).check();
    await one.shot('access-grant');
    expect(await findings(page)).toEqual([]);
    await grant.getByRole('button', { name: 'Grant' }).click();
    await memberOf('ana').getByText('writer').waitFor();

    await page.getByRole('button', { name: 'Change the role of ana' }).click();
    const change = page.getByRole('dialog', { name: 'Change the role of ana' });
    expect(await change.getByRole('radio', { name: /^writer/ }).isChecked()).toBe(true);
    await change.getByRole('radio', { name: /^editor/ }).check();
    await change.getByRole('button', { name: 'Change' }).click();
    await memberOf('ana').getByText('editor').waitFor();

    await page.getByRole('button', { name: 'Revoke the role of ana' }).click();
    const revoke = page.getByRole('dialog', { name: 'Revoke the role of ana?' });
    expect(await findings(page)).toEqual([]);
    // Enter must not revoke.
    await page.keyboard.press('Enter');
    await revoke.waitFor({ state: 'hidden' });
    await page.getByRole('button', { name: 'Revoke the role of ana' }).click();
    await revoke.getByRole('button', { name: 'Revoke the role' }).click();
    await memberOf('ana').waitFor({ state: 'detached' });
    expect((await api(AccessService, operator).listGrants({})).grants).not.toContainEqual(
      expect.objectContaining({ principal: 'ana' }),
    );
  });
});

test('an owner invites someone, whose token works, is shown once and is revoked with the role', async () => {
  await visit(owner, '/p/speech/runs', async one => {
    const { page } = one;
    await account(page).waitFor();
    await page.keyboard.press('Control+k');
    await page.keyboard.type('invite');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Invite' }).click();
    const form = page.getByRole('dialog', { name: 'Invite someone' });
    await form.getByLabel('Name of a person or a service').fill('bo');
    await form.getByRole('radio', { name: /^writer/ }).check();
    await form.getByLabel('What the token is for').fill('laptop of Bo');
    await form.getByLabel(/^Days until it expires/).fill('10');
    await form.getByRole('button', { name: 'Invite' }).click();

    const dialog = page.getByRole('dialog', { name: 'The new token of bo' });
    await dialog.getByText('it cannot be shown again').waitFor();
    // A slip does not close it.
    await page.keyboard.press('Escape');
    await page.mouse.click(5, 5);
    const secret = (await dialog
      .getByRole('group', { name: 'Token' })
      .locator('pre')
      .textContent())!;
    expect(secret).toMatch(/^mtk_/);
    const { query } = server.addresses;
    expect(
      await dialog.getByRole('group', { name: 'Lines for a shell' }).locator('pre').textContent(),
    ).toBe(`export MATYAN_BACKEND_URL=${query}/p/speech\nexport MATYAN_TOKEN=${secret}`);
    // A link is a credential of its own, which nobody has asked for yet.
    expect(one.calls).not.toContain('AccessService/CreateLink');
    await dialog.getByRole('button', { name: 'Create a sign-in link' }).press('Enter');
    const link = (await dialog
      .getByRole('group', { name: /^Sign-in link/ })
      .locator('pre')
      .textContent())!;
    expect(link).toContain(`${query}/p/speech/sign-in#mtl_`);
    expect(one.calls.filter(call => call === 'AccessService/CreateLink').length).toBe(1);
    await dialog.getByText(/is of use on this machine only/).waitFor();
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await dialog.getByRole('button', { name: 'Copy: Token' }).click();
    await dialog.getByText('Copied').waitFor();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(secret);
    expect(await findings(page)).toEqual([]);
    await dialog.getByRole('button', { name: 'Done' }).click();
    expect(await page.content()).not.toContain(secret);

    const links = page.getByRole('table', { name: 'Sign-in links' });
    await links.getByRole('row').filter({ hasText: 'bo' }).getByText('within an hour').waitFor();
    expect(await links.textContent()).not.toContain('mtl_');
    expect(await findings(page)).toEqual([]);
    await links.getByRole('button', { name: 'Revoke the link of bo' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke the link' }).click();
    await links.getByRole('row').filter({ hasText: 'bo' }).waitFor({ state: 'detached' });
    expect((await api(AccessService, operator).listLinks({})).links).toEqual([]);

    const { principal, roles } = await api(AccessService, secret).getCaller({});
    expect([principal, roles.map(({ role }) => role)]).toEqual(['bo', [Role.WRITER]]);
    const row = page
      .getByRole('table', { name: 'Tokens' })
      .getByRole('row')
      .filter({ hasText: 'laptop of Bo' });
    // It expires soon.
    expect(await row.locator('.warn').textContent()).toContain('in 9 d');

    await page.getByRole('button', { name: 'Revoke the role of bo' }).click();
    const revoke = page.getByRole('dialog', { name: 'Revoke the role of bo?' });
    expect(await revoke.getByRole('checkbox').isChecked()).toBe(true);
    await revoke.getByRole('button', { name: 'Revoke the role' }).click();
    await row.waitFor({ state: 'detached' });
    await eventually(
      'the token is refused',
      () =>
        api(AccessService, secret)
          .getCaller({})
          .then(
            () => false,
            error => error instanceof ConnectError,
          ),
      CHANGE_MS,
    );
  });
});

test('a link signs a browser in once, after a click, and signing out ends the session', async () => {
  const access = api(AccessService, operator);
  await access.grant({ principal: 'lea', role: Role.VIEWER });
  const { secret } = await access.createLink({ principal: 'lea' });
  const path = `/p/speech/sign-in?next=%2Fp%2Fspeech%2Fexperiments#${secret}`;
  const open = await Visit.open(browser, server, path);
  const { page } = open;
  await page.getByText('This link signs you in to the project speech, once.').waitFor();
  // The address, and so the history, no longer has the secret.
  expect(new URL(page.url()).hash).toBe('');
  expect(await page.getByLabel('Token').isVisible()).toBe(false);
  for (const theme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme: theme });
    expect(await findings(page)).toEqual([]);
    await open.shot(`sign-in-link-${theme}`);
  }
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(/\/p\/speech\/experiments$/);
  await account(page).getByText('lea').waitFor();
  const cookies = await page.context().cookies();
  const session = cookies.find(({ name }) => name.startsWith('matyan'))!;
  expect([session.httpOnly, session.sameSite, session.value.slice(0, 4)]).toEqual([
    true,
    'Lax',
    'mts_',
  ]);
  await account(page).click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL(/\/sign-in\?reason=signed-out$/);
  // Someone who has copied the cookie is signed out as well.
  await page.context().addCookies([session]);
  await eventually(
    'the session has ended',
    async () => {
      // A page that finds out while it loads leads to the page for signing in, which interrupts this navigation.
      await page.goto(`${open.base}/p/speech/experiments`).catch(() => undefined);
      return new URL(page.url()).pathname === '/p/speech/sign-in';
    },
    CHANGE_MS,
  );
  await page.goto(open.base + path);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('This link was used already').waitFor();
  open.errors.splice(0);
  await open.close();
});

test('an owner creates a token of a member, and revokes it', async () => {
  await visit(owner, '/p/speech/access', async one => {
    const { page } = one;
    await page.getByRole('button', { name: 'New token' }).click();
    const form = page.getByRole('dialog', { name: 'New token' });
    const members = form.getByLabel('Member');
    await eventually(
      'the members are there',
      async () => (await members.locator('option').count()) > 1,
    );
    // Not the operator, whose token would permit more than the owner may do.
    expect(await members.locator('option').allTextContents()).not.toContain('operator');
    expect(await members.inputValue()).toBe('olga');
    await form.getByLabel('What it is for').fill('training nodes');
    await form.getByLabel('Limit to role').selectOption('ingest');
    expect(await findings(page)).toEqual([]);
    await form.getByRole('button', { name: 'Create' }).click();
    const dialog = page.getByRole('dialog', { name: 'The new token of olga' });
    const secret = (await dialog
      .getByRole('group', { name: 'Token' })
      .locator('pre')
      .textContent())!;
    // It reads nothing, so it opens no page.
    expect(await dialog.getByRole('button', { name: 'Create a sign-in link' }).count()).toBe(0);
    expect(one.calls).not.toContain('AccessService/CreateLink');
    await dialog.getByRole('button', { name: 'Done' }).click();
    await expect(api(ProjectService, secret).get({})).rejects.toThrow('this needs the role viewer');
    await page.getByRole('button', { name: 'Revoke the token training nodes of olga' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke the token' }).click();
    await page
      .getByRole('row')
      .filter({ hasText: 'training nodes' })
      .waitFor({ state: 'detached' });
  });
});

test('an owner reads the audit log of the project, with filters, and an operator the log of all', async () => {
  const access = api(AccessService, owner);
  await access.grant({ principal: 'audited', role: Role.VIEWER });
  await expect(access.grant({ principal: 'audited', role: Role.OPERATOR })).rejects.toThrow();
  const rows = (page: Page) =>
    page.getByRole('table', { name: 'Audit log' }).getByRole('rowheader');
  const project = (page: Page) => page.getByRole('combobox', { name: /^Project/ });
  await visit(owner, '/p/speech/access', async one => {
    const { page } = one;
    await page.getByRole('link', { name: 'audit log' }).click();
    await rows(page).filter({ hasText: 'olga' }).first().waitFor();
    // Entries of all projects are for operators.
    expect(await project(page).count()).toBe(0);
    expect(await findings(page)).toEqual([]);
    await page.getByLabel('About', { exact: true }).fill('audited');
    await page.getByLabel('About', { exact: true }).press('Enter');
    await eventually('the filter leaves two entries', async () => (await rows(page).count()) === 2);
    await page.getByLabel('Failed only').check();
    await eventually('one has failed', async () => (await rows(page).count()) === 1);
    await page.getByText('invalid argument').waitFor();
    expect(new URL(page.url()).search).toBe('?about=audited&failed=1');
    for (const theme of ['dark', 'light'] as const) {
      await page.emulateMedia({ colorScheme: theme });
      await one.shot(`access-audit-${theme}`);
    }
    await page.getByLabel('To', { exact: true }).fill('2020-01-01');
    await page.getByText('No entry fits').waitFor();
    expect(await findings(page)).toEqual([]);
    await page.getByRole('button', { name: 'Clear the filters' }).click();
    await rows(page).filter({ hasText: 'olga' }).first().waitFor();
    expect(one.calls).not.toContain('AuditService/ListAllEntries');
  });
  await visit(operator, '/p/speech/access/audit?call=sign-in&everywhere=1', async one => {
    const { page } = one;
    await rows(page).filter({ hasText: 'olga' }).first().waitFor();
    await page.getByText('the server', { exact: true }).first().waitFor();
    expect(one.calls).not.toContain('AuditService/ListEntries');
    await project(page).selectOption('one');
    await page.getByText('No entry fits').waitFor();
    // Below the default project as well, the page for codes is another document.
    await page.goto(`${one.base}/experiments`);
    await account(page).click();
    await page.getByRole('link', { name: 'Sign a program in' }).click();
    await page.getByLabel('Code that the program shows').waitFor();
    expect(new URL(page.url()).pathname).toBe('/sign-in/code');
    expect(await findings(page)).toEqual([]);
  });
});

test('a viewer sees no buttons for what it may not do', async () => {
  await visit(viewer, '/p/speech/project', async one => {
    const { page } = one;
    await page.getByText('Only owners of the project change its name').waitFor();
    await page.getByText('Only operators of the server create projects.').waitFor();
    expect(await page.getByRole('heading', { name: 'Speech' }).count()).toBe(1);
    for (const name of [
      /^Name of the project/,
      /^Description of the project/,
      'New project',
      'Delete…',
    ])
      expect(await page.getByRole('button', { name }).count()).toBe(0);
    expect(await findings(page)).toEqual([]);
    await page.keyboard.press('Control+k');
    await page.keyboard.type('new project');
    await page.getByText('Nothing has this name').waitFor();
    await page.keyboard.press('Escape');
    // Nothing leads to what the server refuses.
    expect(await page.getByRole('link', { name: 'Members and tokens' }).count()).toBe(0);
    await account(page).click();
    expect(await page.getByRole('link', { name: 'Access to this project' }).count()).toBe(0);
    await page.goto(`${one.base}/p/speech/access`);
    await page.getByText('Only owners of this project see its members and tokens').waitFor();
    expect(await page.getByRole('button', { name: /Grant|Invite|New token/ }).count()).toBe(0);
    expect(await findings(page)).toEqual([]);
    await page.goto(`${one.base}/p/speech/access/audit`);
    await page.getByText('Only owners of this project see its audit log').waitFor();
    // Nothing was asked that the server refuses.
    expect(one.calls.filter(call => /(Access|Audit)Service\/List/.test(call))).toEqual([]);
    await one.shot('access-viewer');
  });
});

test('a viewer reads runs and reports, and sees nothing that changes them', async () => {
  const runId = 'a'.repeat(24);
  const events = [{ kind: { case: 'createRun', value: {} } as const }];
  const batch = toBinary(IngestionBatchSchema, create(IngestionBatchSchema, { events }));
  const ingest = api(IngestService, operator, '/p/speech', server.addresses.ingest);
  await ingest.publish({ runId, batch });
  await api(ExperimentService, operator).create({ name: 'baseline' });
  const { report } = await api(ReportService, operator).create({ name: 'Findings', code: 'Good.' });
  const edits = /^(Actions for the run|Name of the|Description of|New |Add |Edit|Delete)/;
  const check = async (token: string, has: boolean): Promise<void> => {
    const pages: [path: string, ready: string][] = [
      [`/runs/${runId}?tab=overview`, 'Last edited'],
      ['/experiments', 'baseline'],
      [`/reports/${report?.id}`, 'Good.'],
    ];
    for (const [path, ready] of pages) {
      await visit(token, `/p/speech${path}`, async one => {
        const { page } = one;
        await page.getByText(ready).first().waitFor();
        await account(page).waitFor();
        await one.quiet();
        expect((await page.getByRole('button', { name: edits }).count()) > 0, path).toBe(has);
        expect(await findings(page)).toEqual([]);
      });
    }
  };
  await check(viewer, false);
  await check(owner, true);
});

test('a project without a role for the reader does not exist', async () => {
  await visit(viewer, '/runs', async one => {
    const { page } = one;
    await page.getByText('You have no role in the default project').waitFor();
    await page.getByRole('link', { name: 'Speech' }).click();
    await page.waitForURL(/\/p\/speech\/$/);
    // The only project of the reader is named, and the start leads to it.
    await page.getByRole('button', { name: 'Project Speech' }).waitFor();
    await page.goto(`${one.base}/`, { waitUntil: 'commit' });
    await page.waitForURL(/\/p\/speech\/$/);
    one.errors.splice(0);
  });
});

test.each([
  ['light', 1280],
  ['dark', 1280],
  ['light', 390],
  ['dark', 390],
] as const)(
  'the page, the menu and the dialog in the theme %s at %i pixels',
  async (theme, width) => {
    await visit(
      owner,
      '/p/speech/access',
      async one => {
        const { page } = one;
        await page.getByRole('row').filter({ hasText: 'browser of vera' }).waitFor();
        expect(await findings(page)).toEqual([]);
        await one.shot(`access-${theme}-${width}`);
        await account(page).click();
        await one.shot(`access-menu-${theme}-${width}`);
        expect(await findings(page)).toEqual([]);
        await page.keyboard.press('Escape');
        await page.getByRole('button', { name: 'Invite' }).click();
        await one.shot(`access-invite-${theme}-${width}`);
        expect(await findings(page)).toEqual([]);
        await page.keyboard.press('Escape');
        await page.getByRole('button', { name: 'New token' }).click();
        await page.getByLabel('What it is for').fill(`screenshot ${theme} ${width}`);
        await page.getByRole('button', { name: 'Create' }).click();
        await page.getByText('it cannot be shown again').waitFor();
        await one.shot(`access-token-${theme}-${width}`);
        expect(await findings(page)).toEqual([]);
        expect(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)).toBe(
          false,
        );
      },
      { theme, width, height: width === 390 ? 844 : 900 },
    );
  },
);

test('a reader who may only send data sees one page that says so', async () => {
  await visit(await invite('ci', Role.INGEST), '/p/speech/runs', async one => {
    const { page } = one;
    await page.getByRole('heading', { name: 'ci may only send data' }).waitFor();
    expect(await page.getByText('Offline').count()).toBe(0);
    expect(await findings(page)).toEqual([]);
    one.errors.splice(0);
  });
});

test('on a phone, no part of the navigation covers another one', async () => {
  await visit(
    operator,
    '/p/speech/runs',
    async one => {
      const { page } = one;
      await account(page).waitFor();
      // With a second project, there is a menu of projects.
      await page.getByRole('button', { name: 'Project Speech' }).waitFor();
      const covered = await page.locator('nav :is(a, button):visible').evaluateAll(controls =>
        controls
          .filter(control => {
            const { x, y, width, height } = control.getBoundingClientRect();
            const hit = document.elementFromPoint(x + width / 2, y + height / 2);
            return !control.contains(hit);
          })
          .map(control => control.getAttribute('aria-label') ?? control.textContent),
      );
      expect(covered).toEqual([]);
      await page.click('nav [aria-label="More pages"]');
      await page.getByRole('menuitem', { name: 'Theme: dark' }).waitFor();
      await page.getByRole('menuitemradio', { name: 'Reports' }).click();
      await page.waitForURL(/\/p\/speech\/reports$/);
    },
    { width: 390, height: 844 },
  );
});

test('an anonymous reader reads what everyone may read, and can sign in', async () => {
  const open = await Server.start({ hasAccess: true });
  try {
    const origin = open.addresses.query;
    const token = await open.operatorToken();
    const principal = 'anonymous';
    await api(AccessService, token, '', origin).grant({ principal, role: Role.VIEWER });
    const everyone = createClient(AccessService, createGrpcWebTransport({ baseUrl: origin }));
    const isKnown = (): Promise<boolean> =>
      everyone.getCaller({}).then(
        () => true,
        () => false,
      );
    await eventually('the role is in force', isKnown, CHANGE_MS);
    const one = await Visit.open(browser, open, '/project');
    const { page } = one;
    const link = page.getByRole('navigation').getByRole('link', { name: 'Sign in' });
    await link.waitFor();
    await page.getByText('Only owners of the project change its name').waitFor();
    await one.quiet();
    // Calls that others may make have not led to the sign-in page.
    expect(new URL(page.url()).pathname).toBe('/project');
    expect(await findings(page)).toEqual([]);
    await page.goto(`${one.base}/access`);
    await page.getByText('You are not signed in.').waitFor();
    await one.shot('access-anonymous');
    await link.click();
    await page.waitForURL(/\/sign-in\?next=%2Faccess$/);
    await signIn(page, token);
    await page.getByRole('table', { name: 'Members' }).getByText('anonymous').waitFor();
    await page.getByRole('button', { name: 'Revoke the role of anonymous' }).waitFor();
    expect(await page.getByRole('button', { name: 'Change the role of anonymous' }).count()).toBe(
      0,
    );
    await one.close();
  } finally {
    await open.remove();
  }
});

test('a secret that a server leaves is found', async () => {
  const planted = join(server.data, 'log', 'planted');
  try {
    await writeFile(planted, `token=${operator}\n`);
    const [place, ...others] = await secretsInData(server.data);
    expect(place).toContain(planted);
    expect(place).not.toContain(operator);
    expect(others).toEqual([]);
    await writeFile(planted, operator.slice(0, -1));
    expect(await secretsInData(server.data)).toEqual([]);
  } finally {
    await rm(planted);
  }
  const link = `sign in at http://localhost/sign-in#${operator.replace('mtk_', 'mtl_')}\n`;
  expect(secretsInOutput(link)).toEqual([]);
  expect(secretsInOutput(link + link).length).toBe(1);
});

test('a server without access control shows nothing of it', async () => {
  const open = await Server.start();
  try {
    const one = await Visit.open(browser, open, '/project');
    const { page } = one;
    await page.getByRole('button', { name: /^Name of the project/ }).waitFor();
    await page.getByRole('button', { name: 'New project' }).waitFor();
    expect(await page.getByText(/sign (in|out)|members and tokens/i).count()).toBe(0);
    expect(await account(page).count()).toBe(0);
    await page.keyboard.press('Control+k');
    await page.keyboard.type('invite');
    await page.getByText('Nothing has this name').waitFor();
    await page.goto(`${one.base}/access`);
    await page.getByText('matyan up --access on').waitFor();
    expect(await findings(page)).toEqual([]);
    expect(one.calls.filter(call => /AccessService\/List/.test(call))).toEqual([]);
    await one.close();
  } finally {
    await open.remove();
  }
});
