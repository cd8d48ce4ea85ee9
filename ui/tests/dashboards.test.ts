/** Dashboards, as a person creates, arranges and shares them. */
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, findings, Site, type Visit } from './harness.ts';

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

async function panels({ page }: Visit): Promise<string[]> {
  return page
    .locator('.panels > li .grip .opener')
    .evaluateAll(all =>
      all.map(one => one.getAttribute('aria-label')?.replace('Actions for panel ', '') ?? ''),
    );
}

async function addPanel({ page }: Visit, kind: string, metric: string): Promise<void> {
  await page.getByRole('button', { name: 'Add a panel' }).first().click();
  const dialog = page.getByRole('dialog', { name: 'Panel' });
  await dialog.getByRole('combobox', { name: 'Show' }).selectOption(kind);
  if (metric) await dialog.getByRole('combobox', { name: 'Metric' }).fill(metric);
  // Saved at once, before the pause after typing is over.
  await dialog
    .getByRole('textbox', { name: 'Filter runs by a query' })
    .fill('run.hparams.batch_size');
  await dialog.getByRole('button', { name: 'Save', exact: true }).click();
  await dialog.waitFor({ state: 'hidden' });
}

test.each(['light', 'dark'] as const)(
  'a dashboard is created, arranged and kept, %s',
  async theme => {
    await site.visit(
      '/dashboards',
      async visit => {
        const { page } = visit;
        let stored = 0;
        page.on(
          'response',
          response => (stored += Number(response.url().endsWith('AppService/Update'))),
        );
        // A change is made while the change before it is being stored.
        await page.route('**/*AppService/Update', async route => {
          await sleep(1_000);
          await route.continue();
        });
        await page.getByRole('button', { name: 'New dashboard' }).click();
        await page.getByRole('heading', { name: 'An empty dashboard' }).waitFor();
        await page.getByRole('textbox', { name: 'Name of the dashboard' }).waitFor();
        await page.keyboard.type('Losses');
        await page.keyboard.press('Enter');
        await page.getByRole('button', { name: 'Name of the dashboard: Losses' }).waitFor();
        await addPanel(visit, 'chart', 'loss');
        await addPanel(visit, 'chart', 'accuracy');
        await addPanel(visit, 'runs', '');
        await page.waitForSelector('.panels table a');
        await eventually('both charts are drawn', () =>
          page
            .locator('canvas.base')
            .evaluateAll(
              all => all.filter(one => Number(one.dataset.series ?? 0) > 0).length === 2,
            ),
        );
        expect(await panels(visit)).toEqual(['loss', 'accuracy', 'Runs']);
        expect(new Set(await page.locator('.panels .grip .query').allTextContents())).toEqual(
          new Set(['run.hparams.batch_size']),
        );
        // By pointer, then by keyboard.
        await page.locator('.panels .grip').nth(2).dragTo(page.locator('.panels > li').first());
        await eventually(
          'the table is first',
          async () => (await panels(visit)).join() === 'Runs,loss,accuracy',
        );
        await page.locator('.panels .grip .opener').first().press('Enter');
        await page.locator('[role=menu] :focus').waitFor();
        await page.getByRole('menuitem', { name: 'Wider' }).press('Enter');
        await page.locator('.panels .grip .opener').last().press('Enter');
        await page.locator('[role=menu] :focus').waitFor();
        await page.getByRole('menuitem', { name: 'Move left' }).press('Enter');
        await eventually(
          'it moved',
          async () => (await panels(visit)).join() === 'Runs,accuracy,loss',
        );
        // A corner has the keys of both directions.
        const corner = page.locator('.panels .corner').first();
        await corner.press('ArrowDown');
        await eventually('it is higher', async () =>
          /span 5/.test((await page.locator('.panels > li').first().getAttribute('style')) ?? ''),
        );
        await visit.shot(`dashboard-${theme}`);
        expect(await findings(page)).toEqual([]);
        // Three panels, and four changes of their order and sizes.
        await eventually('everything is stored', () => stored === 7);
        await page.reload();
        await page.waitForSelector('.panels table a');
        expect(await panels(visit)).toEqual(['Runs', 'accuracy', 'loss']);
        const style = await page.locator('.panels > li').first().getAttribute('style');
        expect(style).toContain('span 4');
        expect(style).toContain('span 5');
        await page.getByRole('button', { name: 'Delete the dashboard' }).click();
        await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
        await page.waitForURL(/\/dashboards$/);
        // It comes back with its name and its panels, under another address.
        await page.getByRole('button', { name: 'Undo' }).click();
        await page.getByRole('button', { name: 'Name of the dashboard: Losses' }).waitFor();
        expect(await panels(visit)).toEqual(['Runs', 'accuracy', 'loss']);
        await page.getByRole('button', { name: 'Delete the dashboard' }).click();
        await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
        await page.waitForURL(/\/dashboards$/);
      },
      { theme },
    );
  },
);

test('every kind of panel shows the runs, under the filter of the dashboard', async () => {
  await site.visit('/dashboards', async visit => {
    const { page } = visit;
    await page.getByRole('button', { name: 'New dashboard' }).click();
    await page.getByRole('heading', { name: 'An empty dashboard' }).waitFor();
    await addPanel(visit, 'bar', 'loss');
    await addPanel(visit, 'number', 'loss');
    await addPanel(visit, 'scatter', 'loss');
    await addPanel(visit, 'parallel', 'loss');
    await addPanel(visit, 'importance', 'loss');
    await page.getByRole('button', { name: 'Add a panel' }).first().click();
    const dialog = page.getByRole('dialog', { name: 'Panel' });
    await dialog.getByRole('combobox', { name: 'Show' }).selectOption('text');
    await dialog.getByRole('textbox', { name: 'Text', exact: true }).fill('## Read *this*');
    await dialog.getByRole('button', { name: 'Save', exact: true }).click();
    await page.locator('.panels').getByRole('heading', { name: 'Read this' }).waitFor();
    await page.getByRole('region', { name: 'Bars of loss' }).locator('li').first().waitFor();
    const bars = (): Promise<number> =>
      page.getByRole('region', { name: 'Bars of loss' }).locator('li').count();
    await page.locator('.panels').getByText('best of').waitFor();
    await page.locator('svg.drawing circle').first().waitFor();
    // Only panels near the view are read.
    await page.locator('.panels > li').nth(4).scrollIntoViewIfNeeded();
    await page.getByRole('heading', { name: 'What loss train depends on' }).waitFor();
    expect(await findings(page)).toEqual([]);
    const all = await bars();
    expect(all).toBeGreaterThan(1);
    // The filter limits each panel, and is stored.
    const stored = page.waitForResponse(response => response.url().endsWith('AppService/Update'));
    const filter = page.locator('.page-head').getByRole('textbox', { name: /Filter runs/ });
    await filter.fill('"best" in run.tags');
    await filter.press('Enter');
    await stored;
    await eventually('fewer runs are shown', async () => (await bars()) < all);
    await page.reload();
    await page.getByRole('region', { name: 'Bars of loss' }).locator('li').first().waitFor();
    expect(await bars()).toBeLessThan(all);
    expect(await filter.inputValue()).toBe('"best" in run.tags');
    // A removed panel comes back.
    const before = await panels(visit);
    await page.locator('.panels .grip .opener').first().click();
    await page.getByRole('menuitem', { name: 'Remove' }).click();
    await eventually(
      'it is removed',
      async () => (await panels(visit)).length === before.length - 1,
    );
    await page.getByRole('button', { name: 'Undo' }).click();
    await eventually('it is back', async () => (await panels(visit)).join() === before.join());
  });
});

test('what failed is named, and what does not exist leads to the others', async () => {
  for (const [kind, service] of [
    ['dashboard', 'DashboardService'],
    ['report', 'ReportService'],
  ]) {
    await site.visit(`/${kind}s/${'f'.repeat(32)}`, async visit => {
      const { page } = visit;
      await page.getByRole('heading', { name: `There is no such ${kind}` }).waitFor();
      expect(await findings(page)).toEqual([]);
      await page.route(`**/*${service}/List`, route => route.abort());
      await page.getByRole('link', { name: `Go to the ${kind}s` }).click();
      const alert = page.getByRole('alert');
      await alert.getByText(`The list of ${kind}s`).waitFor();
      await page.unroute(`**/*${service}/List`);
      await alert.getByRole('button', { name: 'Retry' }).click();
      await alert.waitFor({ state: 'detached' });
      // Earlier tests have left dashboards, and no reports.
      const list = page.getByRole('columnheader', { name: 'Changed' });
      await list.or(page.getByRole('heading', { name: `No ${kind}s yet` })).waitFor();
      visit.errors.splice(0);
    });
  }
});
