/** Experiments and tags, whose numbers of runs follow the stream of changes. */
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { RunService } from '../src/gen/matyan/runs/v1/runs_pb.ts';
import { eventually, Site, tabTo, untilNotified } from './harness.ts';

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

/** The number of runs in the row with a name; NaN without such a row. */
async function countOf(page: Page, name: string): Promise<number> {
  const row = page.locator('[role=row]', { has: page.getByRole('link', { name, exact: true }) });
  if ((await row.count()) === 0) return NaN;
  return Number((await row.locator('[role=cell]').nth(2).textContent())?.trim());
}

test('an experiment is edited by keyboard', async () => {
  await site.visit('/experiments', async ({ page }) => {
    await page.getByRole('link', { name: 'distilled', exact: true }).waitFor();
    await tabTo(page, '[aria-label="Edit distilled"]');
    await page.keyboard.press('Enter');
    const dialog = page.getByRole('dialog', { name: 'Edit the experiment' });
    await dialog.waitFor();
    await tabTo(page, 'dialog label:nth-of-type(2) input');
    await page.keyboard.type('smaller models');
    await page.keyboard.press('Enter');
    await page.locator('[role=row]:has-text("distilled"):has-text("smaller models")').waitFor();
    // It is closed without a change, too, and the focus is where it was.
    await page.locator('[aria-label="Edit distilled"]').focus();
    await page.keyboard.press('Enter');
    await tabTo(page, 'dialog label:nth-of-type(2) input');
    await page.keyboard.type('not wanted');
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
    expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe(
      'Edit distilled',
    );
    await page.reload();
    await page.locator('[role=row]:has-text("distilled"):has-text("smaller models")').waitFor();
    expect(await page.getByText('not wanted').count()).toBe(0);
  });
});

test('numbers of runs follow runs that are created, moved, tagged and deleted', async () => {
  const runs = createClient(
    RunService,
    createGrpcWebTransport({ baseUrl: site.server.addresses.query }),
  );
  await site.visit('/experiments', async visit => {
    const { page } = visit;
    await page.waitForSelector('.stream:has-text("Live")');
    const before = await countOf(page, 'baseline');
    const becomes = (name: string, count: number): Promise<boolean> =>
      eventually(`${name} has ${count} runs`, async () => (await countOf(page, name)) === count);
    const [first = '', second = ''] = await Promise.all(
      ['first', 'second'].map(name => site.project.start(name)),
    );
    const total = async (): Promise<number> => {
      const cells = await page.locator('[role=row] [role=cell]:nth-child(3)').allTextContents();
      return cells.reduce((sum, text) => sum + Number(text.trim()), 0);
    };
    const all = site.runs.hashes.length + 2;
    await eventually('both are counted', async () => (await total()) === all);
    await runs.moveBatch({
      runIds: [first, second],
      experiment: { case: 'experimentName', value: 'a new experiment' },
    });
    await becomes('a new experiment', 2);
    await runs.deleteBatch({ runIds: [second] });
    await becomes('a new experiment', 1);
    expect(await total()).toBe(all - 1);
    expect(await countOf(page, 'baseline')).toBe(before);

    // Points change no number, once the stream has had the run.
    const calls = visit.calls.length;
    await untilNotified(page, () => site.project.track(0.5));
    // The experiments, and their studies.
    await eventually(
      'the first change is a reason to read',
      () => new Set(visit.calls.slice(calls)).size > 1,
    );
    await visit.quiet();
    const reads = visit.calls.length;
    for (const value of [0.4, 0.3]) await untilNotified(page, () => site.project.track(value));
    await visit.quiet();
    expect(visit.calls.slice(reads)).toEqual([]);
  });
  await site.visit('/tags', async visit => {
    const { page } = visit;
    await page.waitForSelector('.stream:has-text("Live")');
    const before = await countOf(page, 'best');
    expect(before).toBeGreaterThan(0);
    const runIds = [site.runs.studio];
    await runs.addTagBatch({ runIds, tag: { case: 'tagName', value: 'best' } });
    await eventually('it has one more', async () => (await countOf(page, 'best')) === before + 1);
    await runs.addTagBatch({ runIds, tag: { case: 'tagName', value: 'a new tag' } });
    await eventually('it appears', async () => (await countOf(page, 'a new tag')) === 1);
  });
});
