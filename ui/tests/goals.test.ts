/** Goals of metrics: set in a menu, kept by the server, and followed by all pages. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { SearchService } from '../src/gen/matyan/search/v1/search_pb.ts';
import { eventually, findings, Site, untilNotified } from './harness.ts';

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site?.close());

const TABLE = '/runs?q=vit&columns=metric%3Agrad_norm';

/** Opens the dialog from the menu of the column. */
async function openGoal(page: Page, column: string): Promise<void> {
  await page.getByRole('button', { name: `Column ${column}` }).press('Enter');
  await page.getByRole('menuitem', { name: 'Goal of the metric' }).click();
  await page.getByRole('dialog', { name: /^Goal of / }).waitFor();
}

async function save(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByRole('dialog', { name: /^Goal of / }).waitFor({ state: 'detached' });
}

test.each(['light', 'dark'] as const)('a goal is set in the menu of a column, %s', async theme => {
  await site.visit(
    TABLE,
    async visit => {
      const { page } = visit;
      await page.locator('.table .row:not(.head) a').first().waitFor();
      await openGoal(page, 'grad_norm');
      await page.getByLabel('Better is').selectOption('lower');
      await page.getByLabel('Unit').fill('N');
      await page.getByLabel('Numbers').selectOption('scientific');
      await visit.shot(`goal-dialog-${theme}`);
      expect(await findings(page)).toEqual([]);
      await save(page);
      const cell = page.locator('.table .row:not(.head) .number').first();
      await eventually('numbers follow', async () =>
        /^\d\.\d+e(−)?\d+\s?N$/.test(((await cell.textContent()) ?? '').trim()),
      );
      // The first click brings the best runs.
      await page.getByRole('button', { name: 'grad_norm', exact: true }).click();
      await page.waitForURL(/sort=metric%3Agrad_norm|sort=metric:grad_norm/);
    },
    { theme },
  );
});

test('every page follows a goal, also after a reload', async () => {
  const [first, second] = site.runs.hashes;
  await site.visit(`/compare?runs=${first},${second}`, async ({ page }) => {
    const row = page.locator('.row', {
      has: page.getByRole('button', { name: 'grad_norm', exact: true }),
    });
    await row.locator('.best').waitFor();
    expect(await row.getByTitle('The best value of the row').count()).toBe(1);
  });
});

test('the best value stands for a run if that is chosen', async () => {
  const [first, second] = site.runs.hashes;
  await site.visit(TABLE, async ({ page }) => {
    await page.locator('.table .row:not(.head) a').first().waitFor();
    await openGoal(page, 'grad_norm');
    await page.getByLabel('Value of a run').selectOption('best');
    await page.getByLabel('The primary metric of the project').check();
    await save(page);
  });
  await site.visit(`/compare?runs=${first},${second}`, async ({ page }) => {
    // The primary metric is the first row.
    const title = page.locator('[role=rowheader] button').first();
    await eventually('it is first', async () => (await title.textContent()) === 'grad_norm min');
  });
  await site.visit('/', async ({ page }) => {
    await page.getByRole('link', { name: 'Best runs' }).click();
    await page.waitForURL(/sort=min/);
  });
});

test('the best runs are sorted once a minute, however often points arrive', async () => {
  await site.visit('/', async visit => {
    const { page } = visit;
    // Pauses between reads pass when the test says so.
    await page.clock.install();
    await page.reload();
    await page.getByRole('link', { name: 'Best runs' }).waitFor();
    await visit.quiet();
    const sorts = (): number =>
      visit.requests(SearchService.method.runs).filter(({ sort }) => sort.length > 0).length;
    const before = sorts();
    await untilNotified(page, () => site.project.track(0.5));
    await page.clock.runFor(30_000);
    await visit.quiet();
    expect(sorts()).toBe(before);
    await page.clock.runFor(45_000);
    await eventually('they are sorted', () => sorts() > before);
    await visit.quiet();
    expect(sorts()).toBe(before + 1);
  });
});

test('a change of somebody else is not overwritten', async () => {
  await site.visit(TABLE, async ({ page }) => {
    await page.locator('.table .row:not(.head) a').first().waitFor();
    await openGoal(page, 'grad_norm');
    await page.getByLabel('Unit').fill('mine');
    await site.visit(TABLE, async other => {
      await other.page.locator('.table .row:not(.head) a').first().waitFor();
      await openGoal(other.page, 'grad_norm');
      await other.page.getByLabel('Unit').fill('theirs');
      await save(other.page);
    });
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    await page.getByText(/Someone else has changed it/).waitFor();
    // The value of the other reader is shown behind the dialog.
    const cell = page.locator('.table .row:not(.head) .number').first();
    await eventually('theirs is shown', async () =>
      ((await cell.textContent()) ?? '').includes('theirs'),
    );
  });
});

test('the menu of a chart has the goal, too', async () => {
  await site.visit('/metrics?q=vit', async ({ page }) => {
    await page.getByRole('button', { name: 'Actions for loss', exact: true }).first().click();
    await page.getByRole('menuitem', { name: 'Goal of the metric' }).click();
    const direction = page.getByLabel('Better is');
    expect(await direction.locator('option').first().textContent()).toBe('Lower, by its name');
    await page.keyboard.press('Escape');
    await page.getByRole('dialog', { name: 'Goal of loss' }).waitFor({ state: 'detached' });
  });
});
