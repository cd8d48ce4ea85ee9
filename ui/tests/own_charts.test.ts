/** Charts of a page with their own settings, which go to dashboards and reports. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, findings, Site } from './harness.ts';

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

async function openLarge(page: Page, name: string): Promise<void> {
  await page.getByRole('button', { name: `Actions for ${name}`, exact: true }).click();
  await page.getByRole('menuitem', { name: 'Settings of this chart' }).click();
  await page.getByRole('dialog', { name }).getByRole('combobox', { name: 'Metric' }).waitFor();
}

test('two metrics share a chart with axes of its own, also after a reload', async () => {
  await site.visit('/metrics', async visit => {
    const { page } = visit;
    await openLarge(page, 'loss');
    const dialog = page.getByRole('dialog', { name: 'loss' });
    await dialog.getByRole('combobox', { name: 'Metric' }).fill('loss, accuracy');
    await dialog.getByRole('textbox', { name: 'Title' }).fill('Both');
    await dialog.getByRole('checkbox', { name: 'Log y' }).check();
    await dialog.getByRole('textbox', { name: 'First x' }).fill('2');
    expect(await findings(page)).toEqual([]);
    await dialog.getByRole('button', { name: 'Use for this chart' }).click();
    const both = page.getByRole('region', { name: 'Both', exact: true });
    await both.waitFor();
    const drawn = (): Promise<number> =>
      both.locator('canvas.base').evaluate(one => Number(one.dataset.series ?? 0));
    await eventually('lines of both are drawn', async () => (await drawn()) > 0);
    expect(new URL(page.url()).searchParams.get('own')).toContain('loss?');
    // All charts with the same x axis show the same part of it.
    expect(new URL(page.url()).searchParams.get('from')).toBe('2');
    expect(new URL(page.url()).searchParams.get('to')).toBeNull();
    // The page itself has kept its axes.
    expect(new URL(page.url()).searchParams.get('logy')).toBeNull();
    await page.reload();
    await both.waitFor();
    await page.getByRole('button', { name: 'Actions for Both' }).click();
    await page.getByRole('menuitem', { name: 'Settings of this chart' }).click();
    await page.getByRole('button', { name: 'As on the page' }).click();
    await page.getByRole('region', { name: 'loss', exact: true }).waitFor();
    expect(new URL(page.url()).searchParams.get('own')).toBeNull();
  });
});

test('a chart goes to a dashboard in three clicks, with its range and its runs', async () => {
  await site.visit('/metrics?q=run.hparams.batch_size&from=2&to=6', async visit => {
    const { page } = visit;
    await openLarge(page, 'loss');
    await page
      .getByRole('combobox', { name: 'Dashboard or report' })
      .selectOption({ label: 'New dashboard' });
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    await page.getByText('“loss” is in “New dashboard”.').waitFor();
    await openLarge(page, 'loss');
    const places = page.getByRole('combobox', { name: 'Dashboard or report' });
    await places.selectOption({ label: 'New report' });
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    await page.getByText('“loss” is in “New report”.').waitFor();
    await page.goto(new URL('/dashboards', page.url()).href);
    await page.getByRole('link', { name: 'New dashboard' }).first().click();
    await page.locator('.panels .grip .query', { hasText: 'run.hparams.batch_size' }).waitFor();
    await eventually('the chart is drawn', () =>
      page.locator('canvas.base').evaluate(one => Number(one.dataset.series ?? 0) > 0),
    );
    await page.getByRole('button', { name: 'Actions for panel loss' }).click();
    await page.getByRole('menuitem', { name: 'Edit' }).click();
    const dialog = page.getByRole('dialog', { name: 'Panel' });
    expect(await dialog.getByRole('textbox', { name: 'First x' }).inputValue()).toBe('2');
    expect(await dialog.getByRole('textbox', { name: 'Last x' }).inputValue()).toBe('6');
    await page.keyboard.press('Escape');
    await page.goto(new URL('/reports', page.url()).href);
    await page.getByRole('link', { name: 'New report' }).first().click();
    await page.locator('article canvas.base').waitFor();
  });
});
