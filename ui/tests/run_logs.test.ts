/** The terminal and the log records of a run, in Chromium against the real server. */
import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, findings, held, publish, Site, tabTo } from './harness.ts';

let site: Site;
beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

const studio = (tab: string): string => `/runs/${site.runs.studio}?tab=${tab}`;

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

test('all lines of a long terminal are searched on request, and the search can be stopped', async () => {
  const id = 'feed'.repeat(6);
  const count = 65_000;
  const line = (step: number): string => (step === 5 ? 'the needle' : `line ${step} of hay`);
  for (let first = 0; first < count; first += 5_000) {
    const lines = Array.from({ length: 5_000 }, (_, at) => first + at).map(step => {
      return {
        kind: { case: 'logTerminalLine' as const, value: { line: line(step), step: BigInt(step) } },
      };
    });
    await publish(site.server, id, [{ kind: { case: 'createRun', value: {} } }, ...lines]);
  }
  await site.visit(`/runs/${id}?tab=terminal`, async visit => {
    const { page } = visit;
    await page.getByText('65 000 lines').waitFor();
    const status = page.locator('[role=toolbar] [role=status]');
    const says = (text: string): Promise<boolean> =>
      eventually(
        text,
        async () => (await status.textContent())?.trim().replace(/\s+/g, ' ') === text,
      );
    const search = page.getByRole('button', { name: 'Search all lines' });
    await page.fill('input[aria-label="Search lines"]', 'NEEDLE');
    await says('No match in the newest 20 000 lines');
    await visit.shot('terminal-search');
    expect(await findings(page)).toEqual([]);
    const lines = await held(page, 'LogService/Lines');
    await search.click();
    await page.getByRole('button', { name: 'Stop' }).click();
    await lines();
    await says('No match in the newest 40 000 lines');
    await search.click();
    await says('1 of 1');
    await page.waitForSelector('.current:has-text("the needle")');
    // The search ends at more matches than anybody looks at.
    await page.fill('input[aria-label="Search lines"]', 'hay');
    await says('1 of 20 000 in the newest 20 000 lines');
    expect(await search.count()).toBe(0);
    // Lines that come later are searched, also if they are too many to be read one by one.
    await page.fill('input[aria-label="Search lines"]', 'NEEDLE');
    await says('No match in the newest 20 000 lines');
    const more = (first: number, count: number): Promise<void> => {
      const lines = Array.from({ length: count }, (_, at) => first + at).map(step => {
        const text = step % 5_000 === 4_000 ? 'a late needle' : line(step);
        return {
          kind: { case: 'logTerminalLine' as const, value: { line: text, step: BigInt(step) } },
        };
      });
      return publish(site.server, id, lines);
    };
    await more(count, 5_000);
    await page.getByText('70 000 lines').waitFor();
    await says('1 of 1 in the newest 25 000 lines');
    await more(74_000, 1);
    await says('1 of 2 in the newest 29 001 lines');
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

test('the terminal is searched and scrolled by keyboard', async () => {
  await site.visit(studio('terminal'), async ({ page }) => {
    await page.waitForSelector('.printed:has-text("epoch 29 batch 99")');
    await page.keyboard.press('s');
    await page.keyboard.type('batch 42:');
    const current = page.locator('.current');
    const shows = (epoch: number): Promise<void> =>
      current.filter({ hasText: `epoch ${epoch} batch 42:` }).waitFor();
    const status = page.locator('[role=toolbar] [role=status]');
    await eventually('they are counted', async () =>
      (await status.textContent())?.includes('of 30'),
    );
    // From the lines in view on: after the last one comes the first.
    await current.filter({ hasText: 'batch 42:' }).waitFor();
    const first = Number(/epoch (\d+)/.exec((await current.textContent())!)![1]);
    const next = (by: number): number => (first + by + 30) % 30;
    await page.keyboard.press('Enter');
    await shows(next(1));
    await page.keyboard.press('Shift+Enter');
    await shows(next(0));
    await tabTo(page, '[aria-label="Previous match"]');
    await page.keyboard.press('Enter');
    await shows(next(-1));
    await page.keyboard.press('n');
    await shows(next(0));
    await tabTo(page, '[aria-label="Lines of the terminal"]');
    await page.keyboard.press('Home');
    await page.waitForSelector('.printed:has-text("epoch 0 batch 0:")');
  });
});

test('log records are filtered by level, and the filter is in the URL', async () => {
  await site.visit(studio('logs'), async ({ page }) => {
    await page.waitForSelector('.message button');
    await page.selectOption('select', 'error');
    await page.waitForURL(/level=error/);
    expect(await page.textContent('[role=status]:has-text(" of ")')).toContain('40 of 200');
    expect(
      new Set(await page.locator('.window [role=cell]:nth-child(2)').allTextContents()),
    ).toEqual(new Set(['error']));
    await page.click('.message button >> nth=0');
    await page.waitForSelector('pre:has-text("batch")');
    await page.fill('input[type=search]', 'record 199:');
    await eventually(
      'one record is left',
      async () => (await page.locator('.message').count()) === 1,
    );
  });
});

test('log records are opened and closed by keyboard', async () => {
  await site.visit(studio('logs'), async ({ page }) => {
    await page.waitForSelector('.message button');
    await tabTo(page, '[aria-label="Search messages"]');
    await page.keyboard.type('record 19');
    await eventually('some are left', async () => (await page.locator('.message').count()) === 11);
    await tabTo(page, '.message button');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    const detail = page.getByRole('region', { name: /^Record/ });
    await detail.locator('pre:has-text("record 190")').waitFor();
    await tabTo(page, 'section [aria-label="Close"]');
    await page.keyboard.press('Enter');
    await detail.waitFor({ state: 'detached' });
  });
});
