/** A change by a click is taken back by another click. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, findings, Site } from './harness.ts';

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site?.close());

test.each(['light', 'dark'] as const)('archived runs come back, %s', async theme => {
  await site.visit(
    '/runs?q=vit',
    async visit => {
      const { page } = visit;
      const count = async (): Promise<number> =>
        Number(await page.locator('.page-head > [role=status]').first().textContent());
      await page.locator('.table .row:not(.head) a').first().waitFor();
      const all = await count();
      await page.getByRole('checkbox', { name: 'Select all runs' }).check();
      await page.getByRole('button', { name: 'Actions for the selected runs' }).click();
      await page.getByRole('menuitem', { name: 'Archive', exact: true }).click();
      const undo = page.getByRole('button', { name: 'Undo' });
      // The message stays for as long as the pointer is on it.
      await undo.hover();
      await page.getByText(/\d+ runs? (is|are) archived/).waitFor();
      await visit.shot(`undo-archive-${theme}`);
      expect(await findings(page)).toEqual([]);
      await eventually('they are gone', async () => (await count()) === 0);
      await undo.click();
      await eventually('they are back', async () => (await count()) === all);
    },
    { theme },
  );
});

test('a removed tag comes back, by keyboard', async () => {
  await site.visit(`/runs/${site.runs.hashes[0]}`, async ({ page }) => {
    const remove = page.getByRole('button', { name: /Remove the tag best/ });
    await remove.press('Enter');
    await remove.waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Undo' }).press('Enter');
    await remove.waitFor();
  });
});

test('an undo leaves runs in the archive that were there before', async () => {
  const all = encodeURIComponent('"vit" in run.name and run.archived in (True, False)');
  const archived = encodeURIComponent('"vit" in run.name and run.archived == True');
  const archive = async (page: Page): Promise<void> => {
    await page.getByRole('button', { name: 'Actions for the selected runs' }).click();
    await page.getByRole('menuitem', { name: 'Archive', exact: true }).click();
    await page.getByRole('button', { name: 'Undo' }).waitFor();
  };
  await site.visit(`/runs?q=${all}&sort=name`, async ({ page }) => {
    await page.locator('.window [role=row] input').first().click();
    await archive(page);
  });
  await site.visit(`/runs?q=${all}&sort=name`, async ({ page }) => {
    await page.getByRole('checkbox', { name: 'Select all runs' }).check();
    await archive(page);
    await page.getByRole('button', { name: 'Undo' }).click();
    await site.visit(`/runs?q=${archived}`, async other => {
      const rows = other.page.locator('.window .name a');
      await eventually('only the first is left', async () => {
        await other.page.reload();
        await rows.first().waitFor();
        return (await rows.count()) === 1;
      });
    });
  });
});

test('thirteen deleted runs come back by two clicks, and by the bin', async () => {
  const query = encodeURIComponent('"resnet50" in run.name');
  await site.visit(`/runs?q=${query}&sort=name`, async visit => {
    const { page } = visit;
    const count = async (): Promise<number> =>
      Number(await page.locator('.page-head > [role=status]').first().textContent());
    const boxes = page.locator('.window [role=row] input[type=checkbox]');
    await boxes.first().waitFor();
    const all = await count();
    const remove = async (): Promise<void> => {
      await boxes.nth(0).click();
      await boxes.nth(12).click({ modifiers: ['Shift'] });
      await page.getByRole('button', { name: 'Actions for the selected runs' }).click();
      await page.getByRole('menuitem', { name: 'Delete', exact: true }).click();
      const dialog = page.getByRole('dialog', { name: 'Move 13 runs to the bin?' });
      await dialog.getByRole('button', { name: 'Move to the bin' }).click();
      await page.getByRole('button', { name: 'Undo' }).waitFor();
      await eventually('they are gone', async () => (await count()) === all - 13);
    };
    await remove();
    await page.getByRole('button', { name: 'Undo' }).click();
    const isBack = async (): Promise<boolean> => {
      await page.reload();
      await boxes.first().waitFor();
      return (await count()) === all;
    };
    await eventually('they are back', isBack);
    await remove();
    await page.goto(`${visit.base}/bin`);
    await page.getByRole('table', { name: 'Runs in the bin' }).waitFor();
    expect(await page.locator('.page-head [role=status]').textContent()).toBe('13');
    await visit.shot('bin');
    expect(await findings(page)).toEqual([]);
    await page.getByRole('button', { name: 'Restore all' }).click();
    await page.getByRole('heading', { name: 'The bin is empty' }).waitFor();
    await page.goto(`${visit.base}/runs?q=${query}&sort=name`);
    await eventually('they are back', isBack);
  });
});

test('runs that an undo brings back from the bin are in the table again, at their places', async () => {
  await site.visit('/runs?q=vit&sort=name', async ({ page }) => {
    const names = (): Promise<string[]> => page.locator('.window .name a').allTextContents();
    await page.locator('.window .name a').first().waitFor();
    const all = await names();
    await page.locator('.window [role=row] input').first().click();
    await page.getByRole('button', { name: 'Actions for the selected runs' }).click();
    await page.getByRole('menuitem', { name: 'Delete' }).click();
    await page.getByRole('button', { name: 'Move to the bin' }).click();
    await eventually('it is gone', async () => (await names()).length === all.length - 1);
    await page.getByRole('button', { name: 'Undo' }).click();
    await eventually('it is back', async () => (await names()).join() === all.join());
  });
});
