/**
 * Signing in with a provider of OpenID Connect, in Chromium: from a link to the table of runs, with roles by group, until
 * signing out or being disabled.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { create, toBinary, type DescService } from '@bufbuild/protobuf';
import type { Client } from '@connectrpc/connect';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { AccessService } from '../src/gen/matyan/access/v1/access_pb.ts';
import { AuditService } from '../src/gen/matyan/access/v1/audit_pb.ts';
import { IngestionBatchSchema } from '../src/gen/matyan/ingest/v1/batch_pb.ts';
import { IngestService } from '../src/gen/matyan/ingest/v1/ingest_pb.ts';
import { ProjectService } from '../src/gen/matyan/project/v1/project_pb.ts';
import { clientOf } from './client_of.ts';
import { eventually, findings, launch, Server, Visit } from './harness.ts';
import { CLIENT_ID, CLIENT_SECRET, OidcProvider, PACKAGE } from './oidc_provider.ts';

/** A change of a role or a session is in force after 30 s at the latest. */
const CHANGE_MS = 40_000;
const RUN = 'a'.repeat(24);
const RUNS = '/p/speech/runs?q=run.active';

let browser: Browser;
let server: Server;
let provider: OidcProvider;
let folder: string;
let operator: string;

beforeAll(async () => {
  if (!PACKAGE) return;
  folder = await mkdtemp(join(tmpdir(), 'matyan-oidc-'));
  const secret = join(folder, 'client-secret');
  await writeFile(secret, `${CLIENT_SECRET}\n`);
  provider = await OidcProvider.listen();
  const variables = {
    MATYAN_OIDC_ISSUER: provider.issuer,
    MATYAN_OIDC_CLIENT_ID: CLIENT_ID,
    MATYAN_OIDC_CLIENT_SECRET_FILE: secret,
    MATYAN_OIDC_TITLE: 'Our Company',
    MATYAN_OIDC_SCOPES: 'email groups',
    MATYAN_OIDC_ROLES: 'ml-team = editor@speech, guests = viewer@speech, planners = viewer@planned',
  };
  [browser, server] = await Promise.all([launch(), Server.start({ hasAccess: true, variables })]);
  await provider.serve(server.addresses.query);
  operator = await server.operatorToken();
  await api(ProjectService, '').create({ name: 'speech', displayName: 'Speech' });
  await api(ProjectService, '').create({ name: 'vision', displayName: 'Vision' });
  const events = [{ kind: { case: 'createRun', value: {} } as const }];
  const batch = toBinary(IngestionBatchSchema, create(IngestionBatchSchema, { events }));
  await api(IngestService, '/p/speech', server.addresses.ingest).publish({ runId: RUN, batch });
});

afterAll(async () => {
  await browser?.close();
  await server?.remove();
  await provider?.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** Calls of the operator. */
function api<S extends DescService>(
  service: S,
  path = '/p/speech',
  origin = server.addresses.query,
): Client<S> {
  return clientOf(service, operator, origin + path);
}

/** Goes from the page for signing in to the provider, and tells it who it is. */
async function introduce(page: Page, name: string): Promise<void> {
  await page.getByRole('link', { name: 'Sign in with Our Company' }).click();
  await page.locator('input[name=login]').fill(name);
  await page.locator('input[name=password]').fill('any');
  await page.getByRole('button', { name: 'Sign-in' }).click();
  await page.getByRole('button', { name: 'Continue' }).waitFor();
}

async function signInAs(page: Page, name: string): Promise<void> {
  await introduce(page, name);
  await page.getByRole('button', { name: 'Continue' }).click();
}

const account = (page: Page) => page.getByRole('button', { name: /^Signed in as / });

test.skipIf(!PACKAGE)('a member of a group signs in, from a link to the runs', async () => {
  provider.groups.set('ana', ['ml-team', 'others']);
  const open = await Visit.open(browser, server, RUNS);
  const { page } = open;
  await page.waitForURL(/\/sign-in\?next=/);
  expect(await findings(page)).toEqual([]);
  for (const theme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme: theme });
    await open.shot(`sign-in-provider-${theme}`);
  }
  await signInAs(page, 'ana');
  await page.waitForURL(server.addresses.query + RUNS);
  await page.locator(`a[href*="${RUN}"]`).first().waitFor();
  await account(page).getByText('oidc:ana@example.org').waitFor();
  await account(page).click();
  expect(await page.getByRole('list', { name: 'Your roles' }).textContent()).toBe(
    'editor of speech',
  );
  // No other project exists for her.
  await page.goto(`${open.base}/p/vision/runs`);
  await page
    .getByText(/no project|no role/i)
    .first()
    .waitFor();
  await page.goto(open.base + RUNS);
  await account(page).click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL(/\/sign-in\?reason=signed-out$/);
  await page.goto(open.base + RUNS);
  await page.waitForURL(/\/sign-in\?next=/);
  await eventually('all of it is in the audit log', async () => {
    const filter = { principal: 'oidc:ana@example.org' };
    const { entries } = await api(AuditService).listAllEntries({ filter });
    const found = entries.map(({ rpc, outcome }) => `${rpc} ${outcome}`);
    return found.join() === 'sign-out OK,sign-in OK,group-grant OK';
  });
  open.errors.splice(0);
  await open.close();
});

test.skipIf(!PACKAGE)('without a group that has a role nobody gets in', async () => {
  provider.groups.set('eve', ['others']);
  const open = await Visit.open(browser, server, RUNS);
  const { page } = open;
  await signInAs(page, 'eve');
  await page.getByText('You are known as oidc:eve@example.org, and have no role here').waitFor();
  // The provider has failed, and not the form for a token.
  await page.locator('[role=alert] + nav').waitFor();
  // Another attempt leads to the same page.
  const again = page.getByRole('link', { name: 'Sign in with Our Company' });
  expect(await again.getAttribute('href')).toContain(`next=${RUNS}`);
  expect(await findings(page)).toEqual([]);
  await page.goto(open.base + RUNS);
  await page.waitForURL(/\/sign-in\?next=/);
  await page.goto(`${open.base}/p/speech/sign-in#mtl_any`);
  await page.locator('form.own + .or + nav').waitFor();
  expect(await page.locator('.or').textContent()).toBe('or');
  for (const theme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme: theme });
    expect(await findings(page)).toEqual([]);
    await open.shot(`sign-in-link-or-provider-${theme}`);
  }
  open.errors.splice(0);
  await open.close();
});

test.skipIf(!PACKAGE)('a group may have a role in a project that does not exist', async () => {
  provider.groups.set('pia', ['planners']);
  const open = await Visit.open(browser, server, RUNS);
  const { page } = open;
  await signInAs(page, 'pia');
  await page.getByText('No project exists in which you have a role').waitFor();
  expect(await page.getByText('These are your projects').count()).toBe(0);
  open.errors.splice(0);
  await open.close();
});

test.skipIf(!PACKAGE)('the answer of a provider is of no use in another browser', async () => {
  provider.groups.set('mallory', ['guests']);
  const own = await Visit.open(browser, server, RUNS);
  await introduce(own.page, 'mallory');
  // Consents without following the way back.
  const action = (await own.page.locator('form').first().getAttribute('action'))!;
  const { request } = own.page;
  const options = { maxRedirects: 0 };
  const form = { prompt: 'consent' };
  const consented = await request.post(new URL(action, own.page.url()).href, { form, ...options });
  const resume = new URL(consented.headers().location!, provider.issuer).href;
  const answer = (await request.get(resume, options)).headers().location!;
  expect(answer).toContain(`${server.addresses.query}/sign-in/callback?`);
  const other = await Visit.open(browser, server, RUNS);
  await other.page.goto(answer);
  await other.page.getByText('was not started in this browser').waitFor();
  // The address, and so the history, no longer has the answer.
  expect(other.page.url()).toBe(`${other.base}/sign-in`);
  await other.page.goto(other.base + RUNS);
  await other.page.waitForURL(/\/sign-in\?next=/);
  for (const visit of [own, other]) {
    visit.errors.splice(0);
    await visit.close();
  }
});

test.skipIf(!PACKAGE)('a disabled user is out, and does not come back', async () => {
  provider.groups.set('bob', ['guests']);
  const open = await Visit.open(browser, server, RUNS);
  const { page } = open;
  await signInAs(page, 'bob');
  await account(page).getByText('oidc:bob@example.org').waitFor();
  await api(AccessService).disablePrincipal({ principal: 'oidc:bob@example.org' });
  await page
    .getByRole('alert')
    .filter({ hasText: 'Your session has ended' })
    .waitFor({ timeout: CHANGE_MS });
  await page.goto(open.base + RUNS);
  await page.waitForURL(/\/sign-in\?next=/);
  // The provider still knows him.
  await page.getByRole('link', { name: 'Sign in with Our Company' }).click();
  await page.getByText('oidc:bob@example.org is disabled').waitFor();
  await api(AccessService).enablePrincipal({ principal: 'oidc:bob@example.org' });
  await page.getByRole('link', { name: 'Sign in with Our Company' }).click();
  await account(page).getByText('oidc:bob@example.org').waitFor();
  open.errors.splice(0);
  await open.close();
});
