/** The parts of a run beyond its charts, and what a reader changes about it, in Chromium against the real server. */
import { readFile } from 'node:fs/promises';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { eventually, findings, Site } from './harness.ts';

let site: Site;
beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

const studio = (tab: string): string => `/runs/${site.runs.studio}?tab=${tab}`;

describe('every tab', () => {
  const tabs: [tab: string, ready: string][] = [
    ['terminal', '.printed span:text-is("info")'],
    ['logs', '.message button'],
    ['artifacts', '[role=rowheader] button'],
    ['artifacts&file=config.json', '.text:has-text("onerror")'],
    ['artifacts&file=readme.md', 'article h2:text-is("A model")'],
    ['artifacts&file=outputs%2Ffinal%2Ftable.csv', '[role=columnheader]:has-text("note")'],
    ['artifacts&file=outputs%2Ffinal%2Fchange.diff', '.text.added'],
    ['artifacts&file=outputs%2Ffinal%2Ffinal.png', 'canvas[data-drawn]'],
    ['artifacts&file=outputs%2Ffinal%2Fevil.svg', '.text:has-text("onload")'],
    ['artifacts&file=outputs%2Ffinal%2Fweights.bin', 'h2:text-is("No preview")'],
    ['system', 'section h2'],
    ['environment', '[role=rowheader]:has-text("torch")'],
    ['overview', 'dl code'],
  ];
  for (const theme of ['light', 'dark'] as const) {
    test.each(tabs)(`%s opens without errors and without findings, ${theme}`, async (tab, ready) => {
      await site.visit(
        studio(tab),
        async visit => {
          await visit.page.waitForSelector(ready);
          await visit.shot(`run-${tab.replace(/\W+/g, '-')}-${theme}`);
          expect(await findings(visit.page)).toEqual([]);
        },
        { theme },
      );
    });
  }
});

test('the terminal has every line, finds text, and reads only what is in view', async () => {
  await site.visit(studio('terminal'), async visit => {
    const { page } = visit;
    // It follows the end.
    await page.waitForSelector('.printed:has-text("epoch 29 batch 99")');
    expect(await page.locator('.printed').count()).toBeLessThan(100);
    expect(visit.calls.filter(call => call === 'LogService/Lines').length).toBeLessThan(5);
    await page.fill('input[aria-label="Search lines"]', 'epoch 3 batch 12:');
    await page.waitForSelector('.current:has-text("epoch 3 batch 12")');
    expect(await page.textContent('[role=toolbar] [role=status]')).toContain('1 of 1');
    expect(await page.isChecked('[role=toolbar] [type=checkbox]')).toBe(false);
    expect(await page.locator('.printed b, .printed i').count()).toBe(0);
  });
});

test('a followed terminal shows a new line', async () => {
  await site.visit(`/runs/${site.runs.live}?tab=terminal`, async ({ page }) => {
    await page.waitForSelector('[role=tablist]');
    for (const value of [1, 2, 3]) await site.project.track(value);
    await page.waitForSelector('.printed:has-text("point 3")');
    await site.project.track(4);
    await page.waitForSelector('.printed:has-text("point 4")');
  });
});

test('log records are filtered by level, and the filter is in the URL', async () => {
  await site.visit(studio('logs'), async ({ page }) => {
    await page.waitForSelector('.message button');
    await page.selectOption('select', 'error');
    await page.waitForURL(/level=error/);
    expect(await page.textContent('[role=status]:has-text(" of ")')).toContain('40 of 200');
    expect(new Set(await page.locator('.window [role=cell]:nth-child(2)').allTextContents())).toEqual(
      new Set(['error']),
    );
    await page.click('.message button >> nth=0');
    await page.waitForSelector('pre:has-text("batch")');
    await page.fill('input[type=search]', 'record 199:');
    await eventually('one record is left', async () => (await page.locator('.message').count()) === 1);
  });
});

test('an artifact is downloaded as it was logged', async () => {
  await site.visit(studio('artifacts&file=outputs%2Ffinal%2Fweights.bin'), async ({ page }) => {
    const waiting = page.waitForEvent('download');
    await page.click('section button:has-text("Download")');
    const download = await waiting;
    expect(download.suggestedFilename()).toBe('weights.bin');
    const content = await readFile(await download.path());
    expect(content).toEqual(Buffer.from(Array.from({ length: 256 * 40 }, (_, at) => at % 256)));
  });
});

test('name, description, tags, experiment and archive are changed in place', async () => {
  const id = site.runs.hashes[11] as string;
  await site.visit(`/runs/${id}?tab=overview`, async visit => {
    const { page } = visit;
    await page.click('h1 button');
    await page.fill('h1 input', 'renamed <b>run</b>');
    await page.keyboard.press('Enter');
    await page.waitForSelector('h1:has-text("renamed <b>run</b>")');
    await page.click('button[aria-label^="Description of the run"]');
    await page.fill('textarea', 'first\nsecond');
    await page.keyboard.press('Control+Enter');
    await page.waitForSelector('dd:has-text("second")');
    await page.click('button[aria-label="Add a tag"]');
    await page.fill('dialog[open] input', 'fresh');
    expect(await findings(page)).toEqual([]);
    await visit.shot('run-add-tag');
    await page.keyboard.press('Enter');
    await page.waitForSelector('button[aria-label="Remove the tag fresh"]');
    await page.click('button[aria-label="Remove the tag fresh"]');
    await page.waitForSelector('button[aria-label="Remove the tag fresh"]', { state: 'detached' });
    await page.click('button[aria-label="Actions for the run"]');
    await page.click('[role=menuitem]:has-text("Move")');
    await page.fill('dialog[open] input', 'another experiment');
    await page.keyboard.press('Enter');
    await page.waitForSelector('dd a:has-text("another experiment")');
    await page.click('button[aria-label="Actions for the run"]');
    await page.click('[role=menuitem]:has-text("Archive")');
    await page.waitForSelector('.archived');
    await page.click('button[aria-label="Actions for the run"]');
    await page.click('[role=menuitem]:has-text("Take out")');
    await page.waitForSelector('.archived', { state: 'detached' });
    await page.reload();
    await page.waitForSelector('h1:has-text("renamed <b>run</b>")');
    await page.waitForSelector('dd:has-text("second")');
  });
});

test('a run is deleted after a confirmation only', async () => {
  const id = site.runs.hashes[12] as string;
  await site.visit(`/runs/${id}`, async ({ page }) => {
    const choose = async (): Promise<void> => {
      await page.click('button[aria-label="Actions for the run"]');
      await page.click('[role=menuitem]:has-text("Delete")');
      await page.waitForSelector('dialog[open]:has-text("cannot be undone")');
    };
    await choose();
    await page.keyboard.press('Enter');
    await page.waitForSelector('dialog[open]', { state: 'detached' });
    await page.waitForSelector('h1');
    await choose();
    await page.click('dialog[open] button:has-text("Delete")');
    await page.waitForURL(/\/runs$/);
    await eventually('it is gone from the table', async () => {
      await page.goto(`${site.server.addresses.query}/runs/${id}`);
      return (await page.textContent('main'))?.includes('deleted');
    });
  });
});

test.each(['light', 'dark'] as const)('params are shown next to those of another run, %s', async theme => {
  await site.visit(
    `/runs/${site.runs.hashes[5]}?tab=params`,
    async visit => {
      const { page } = visit;
      await page.waitForSelector('[role=rowheader]');
      const field = page.getByRole('combobox', { name: 'Show the difference to a run, by its name' });
      await field.fill('sweep 07');
      await page.locator('datalist option').first().waitFor({ state: 'attached' });
      await field.fill(site.runs.hashes[7]!);
      await page.keyboard.press('Enter');
      await page.waitForURL(/diff=/);
      await page.getByRole('columnheader', { name: 'resnet50 sweep 07' }).waitFor();
      const rows = (): Promise<number> => page.locator('[role=row]:not(.head)').count();
      const different = await rows();
      await visit.shot(`run-params-diff-${theme}`);
      expect(await findings(page)).toEqual([]);
      await page.getByRole('checkbox', { name: 'Only differences' }).uncheck();
      await eventually('equal values are shown', async () => (await rows()) > different);
      expect(await page.locator('.row.chosen').count()).toBeGreaterThan(0);
      await page.getByRole('button', { name: 'Clear' }).press('Enter');
      await eventually('the column is gone', async () => (await page.locator('.row.chosen').count()) === 0);
    },
    { theme },
  );
});

test('changes since the last commit are shown', async () => {
  await site.visit(`/runs/${site.runs.studio}?tab=changes`, async visit => {
    const { page } = visit;
    await page.waitForSelector('.added:has-text("+lr = 0.01")');
    await page.waitForSelector('.removed:has-text("-lr = 0.1")');
    expect(await findings(page)).toEqual([]);
    await visit.shot('run-changes');
  });
  await site.visit(`/runs/${site.runs.hashes[0]}?tab=changes`, async ({ page }) => {
    await page.waitForSelector('text=No changes since the last commit');
  });
});
