/** Named views: the whole state of the workspace under a name, for everybody. */
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

import { AppService } from '../src/gen/matyan/apps/v1/apps_pb.ts';
import { OutcomeKind } from '../src/gen/matyan/common/v1/common_pb.ts';

import { eventually, findings, held, inSettings, publish, Site } from './harness.ts';

const QUERY = 'run.name.startswith("vit-small")';
const SWEEP = `q=${encodeURIComponent(QUERY)}`;

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site?.close());
/** A default view would open in the next test. */
afterEach(async () => {
  const apps = createClient(
    AppService,
    createGrpcWebTransport({ baseUrl: site.server.addresses.query }),
  );
  for await (const { apps: some } of apps.list({ types: ['workspace'] }))
    for (const { id } of some) await apps.delete({ id });
});

const bar = (page: Page) => page.getByRole('navigation', { name: 'Views' });

async function save(page: Page, name: string, isDefault = false): Promise<void> {
  await page.getByRole('button', { name: 'Save view' }).click();
  const dialog = page.getByRole('dialog', { name: 'Save the view' });
  await dialog.getByRole('textbox', { name: 'Name' }).fill(name);
  if (isDefault) await dialog.getByRole('checkbox', { name: 'The project opens with it' }).check();
  await page.keyboard.press('Enter');
  await current(page, name);
  await dialog.waitFor({ state: 'hidden' });
}

async function current(page: Page, name: string): Promise<void> {
  await bar(page).locator('a[aria-current=page]', { hasText: name }).waitFor();
}

async function follow(page: Page, title: string): Promise<void> {
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: title }).click();
  await page.getByRole('heading', { name: title, level: 1 }).waitFor();
}

const headings = (page: Page): Promise<string[]> =>
  page.locator('.table .head [role=columnheader] .sort').allTextContents();

test('a view keeps the scope and the settings of each page, and is reset or saved again', async () => {
  await site.visit(`/runs?${SWEEP}&columns=created,param:hparams.lr`, async visit => {
    const { page } = visit;
    await page.getByRole('columnheader', { name: /^lr/ }).waitFor();
    await save(page, 'Small ones');
    const columns = await headings(page);
    const address = page.url();
    expect(new URL(address).searchParams.get('q')).toBe(QUERY);
    // A change is shown as one, and is taken back.
    await page.getByRole('columnheader', { name: /^lr/ }).locator('.sort').click();
    await page.getByText('modified').waitFor();
    await visit.shot('views-modified');
    expect(await findings(page)).toEqual([]);
    await page.getByRole('button', { name: 'Reset' }).click();
    await page.getByText('modified').waitFor({ state: 'detached' });
    expect(page.url()).toBe(address);
    // Another page of the same view has its own settings.
    await follow(page, 'Metrics');
    await current(page, 'Small ones');
    expect(new URL(page.url()).searchParams.get('q')).toBe(QUERY);
    await inSettings(page, settings => settings.getByRole('checkbox', { name: 'Log y' }).check());
    await page.getByText('modified').waitFor();
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    await page.getByText('modified').waitFor({ state: 'detached' });
    await follow(page, 'Runs');
    await current(page, 'Small ones');
    await eventually('the columns', async () => (await headings(page)).join() === columns.join());
    expect(await page.getByText('modified').count()).toBe(0);
    await follow(page, 'Metrics');
    await eventually('the axis', () =>
      inSettings(page, settings => settings.getByRole('checkbox', { name: 'Log y' }).isChecked()),
    );
  });
});

test.each(['light', 'dark'] as const)('the project opens with its view, %s', async theme => {
  await site.visit(
    `/runs?${SWEEP}`,
    async ({ page }) => {
      await save(page, 'Team', true);
    },
    { theme },
  );
  // A colleague with an empty browser.
  await site.visit(
    '/runs',
    async visit => {
      const { page } = visit;
      await current(page, 'Team');
      expect(new URL(page.url()).searchParams.get('q')).toBe(QUERY);
      await page.locator('.page-head [role=status]', { hasText: /^\s*15\s*$/ }).waitFor();
      await visit.shot(`views-default-${theme}`);
      expect(await findings(page)).toEqual([]);
      await bar(page).getByRole('link', { name: 'All runs' }).click();
      await page.locator('.page-head [role=status]', { hasText: /^\s*6\d\s*$/ }).waitFor();
      await current(page, 'All runs');
      await page.reload();
      await current(page, 'All runs');
    },
    { theme },
  );
  // A link of somebody else shows what they saw.
  await site.visit('/runs?q=run.active', async ({ page }) => {
    await bar(page).getByRole('link', { name: 'Team' }).waitFor();
    expect(await bar(page).locator('[aria-current]').count()).toBe(0);
  });
});

test('a page is shown before its view is known, and a reader who uses it keeps it', async () => {
  await site.visit(`/runs?${SWEEP}`, async ({ page }) => save(page, 'Team', true));
  await site.visit('/tags', async ({ page, base }) => {
    const rows = page.locator('.window [role=row] input');
    const open = async (): Promise<() => Promise<void>> => {
      const release = await held(page, 'AppService/List');
      await page.goto(`${base}/runs`);
      await rows.first().waitFor();
      return release;
    };
    const unused = await open();
    await unused();
    await current(page, 'Team');
    const used = await open();
    await rows.first().click();
    await used();
    await bar(page).getByRole('link', { name: 'Team' }).waitFor();
    await current(page, 'All runs');
    expect(new URL(page.url()).search).toBe('');
  });
});

test('a view is renamed, is no default any more, is deleted and comes back, by keyboard', async () => {
  await site.visit(`/metrics?${SWEEP}`, async ({ page }) => {
    await save(page, 'First', true);
    const choose = async (title: string): Promise<void> => {
      await page.getByRole('button', { name: /^Actions for the view/ }).press('Enter');
      await page.locator('[role=menu] :focus').waitFor();
      await page.getByRole('menuitem', { name: title }).press('Enter');
    };
    await choose('Rename');
    const name = page.getByRole('dialog').getByRole('textbox', { name: 'Name' });
    await name.fill('Second');
    await name.press('Enter');
    await current(page, 'Second');
    await choose('Open the project with all runs');
    await eventually('it is no default', async () =>
      (await bar(page).getByRole('link', { name: 'All runs' }).getAttribute('href'))?.endsWith(
        '/metrics',
      ),
    );
    await choose('Delete');
    await bar(page).getByRole('link', { name: 'Second' }).waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Undo' }).press('Enter');
    await current(page, 'Second');
    // The palette opens views, too.
    await bar(page).getByRole('link', { name: 'All runs' }).click();
    await current(page, 'All runs');
    await page.keyboard.press('Control+k');
    await page.keyboard.type('view second');
    await page.getByRole('option', { name: /Open the view Second/ }).waitFor();
    await page.keyboard.press('Enter');
    await current(page, 'Second');
  });
});

test('the home page leads to views, and names what has failed', async () => {
  await site.visit(`/metrics?${SWEEP}`, async ({ page }) => save(page, 'Charts of the week'));
  await publish(site.server, 'fa11'.repeat(6), [
    { kind: { case: 'createRun', value: {} } },
    { kind: { case: 'setRunProperty', value: { name: 'out of memory' } } },
    {
      kind: {
        case: 'finishRun',
        value: { outcome: { kind: OutcomeKind.FAILED, message: 'CUDA out of memory' } },
      },
    },
  ]);
  await site.visit('/home', async visit => {
    const { page } = visit;
    await page
      .getByRole('region', { name: 'Failed in the last three days' })
      .getByRole('link', { name: 'out of memory' })
      .waitFor();
    await visit.shot('home-views');
    expect(await findings(page)).toEqual([]);
    await page.getByRole('link', { name: 'Charts of the week' }).click();
    await page.getByRole('heading', { name: 'Metrics', level: 1 }).waitFor();
    await current(page, 'Charts of the week');
    expect(new URL(page.url()).searchParams.get('q')).toBe(QUERY);
  });
});
