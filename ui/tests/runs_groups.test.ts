/** Long tables, orders of several columns, groups, and rows on top, in Chromium against the real server. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { SearchService } from '../src/gen/matyan/search/v1/search_pb.ts';
import { eventually, findings, held, matchCount, publish, Site, type Visit } from './harness.ts';

let site: Site;
beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

const SWEEP = encodeURIComponent('"sweep" in run.name');
const COLUMNS = encodeURIComponent(
  'experiment,created,metric:loss {"subset":"val"},param:hparams.optimizer,param:hparams.batch_size',
);
const MANY = encodeURIComponent('"many" in run.name');
const MANY_RUNS = 3_000;
const AT_A_TIME = 50;

async function shown(page: Page): Promise<string[]> {
  return page.locator('.window .name a').allTextContents();
}

/** Searches for rows; those for ids only select and count. */
function searches(visit: Visit): number {
  return visit.requests(SearchService.method.runs).filter(({ idsOnly }) => !idsOnly).length;
}

async function choose(page: Page, column: string, title: string): Promise<void> {
  await page.focus(`button[aria-label="Column ${column}"]`);
  await page.keyboard.press('Enter');
  await page.click(`[role=menuitem]:text-is("${title}"):visible`);
}

/** Creates runs called `many 0000`, `many 0001` and so on. */
async function createRuns(): Promise<void> {
  const write = (number: number): Promise<void> =>
    publish(site.server, `many${String(number).padStart(20, '0')}`, [
      { kind: { case: 'createRun', value: {} } },
      {
        kind: {
          case: 'setRunProperty',
          value: { name: `many ${String(number).padStart(4, '0')}` },
        },
      },
      { kind: { case: 'finishRun', value: {} } },
    ]);
  for (let first = 0; first < MANY_RUNS; first += AT_A_TIME)
    await Promise.all(Array.from({ length: AT_A_TIME }, (_, at) => write(first + at)));
}

test('a long table loads what is seen, with at most three reads at a time', async () => {
  await createRuns();
  await site.visit(`/runs?q=${MANY}&sort=name`, async visit => {
    const { page } = visit;
    const count = async (): Promise<string> =>
      (await page.textContent('.page-head [role=status]'))?.replace(/\D/g, '') ?? '';
    await eventually('all runs are applied', async () => {
      if ((await count()) === String(MANY_RUNS)) return true;
      await page.reload();
      await page.waitForSelector('.window .name a');
      return false;
    });
    // No page of rows arrives while the view passes it.
    const runs = await held(page, 'SearchService/Runs');
    // Counted in the page: a request that was aborted is reported late.
    await page.evaluate(() => {
      const reads = { running: 0, most: 0, aborted: 0 };
      const read = globalThis.fetch;
      globalThis.fetch = async (input, init) => {
        // The stream of changes is no read.
        if (String(input).endsWith('/Watch')) return read(input, init);
        let isRunning = true;
        const end = (): void => {
          if (isRunning) reads.running -= 1;
          isRunning = false;
        };
        reads.most = Math.max(reads.most, ++reads.running);
        init?.signal?.addEventListener('abort', () => (isRunning && (reads.aborted += 1), end()));
        return read(input, init).finally(end);
      };
      Object.assign(globalThis, { reads });
    });
    const before = searches(visit);
    const scroller = page.locator('.scroller');
    await scroller.evaluate(async element => {
      for (let part = 0; part <= 20; part++) {
        element.scrollTop = (part / 20) * (element.scrollHeight - element.clientHeight);
        await new Promise(requestAnimationFrame);
      }
    });
    await runs();
    await page.waitForSelector(`.window .name a:text-is("many ${MANY_RUNS - 1}")`);
    await scroller.evaluate(element => (element.scrollTop = 1_500 * 34));
    await page.waitForSelector('.window .name a:text-is("many 1510")');
    // Rows are where they belong, and not only somewhere in view.
    const index = await page
      .locator('[role=row]:has(a:text-is("many 1510"))')
      .getAttribute('aria-rowindex');
    expect(index).toBe('1512');
    const { most, aborted } = await page.evaluate(
      () => (globalThis as unknown as { reads: { most: number; aborted: number } }).reads,
    );
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(3);
    expect(aborted).toBeGreaterThan(0);
    expect(searches(visit) - before).toBeLessThan(60);
    console.info(`${most} reads at a time, ${aborted} aborted`);
  });
});

test('all runs and ranges are selected without loading them', async () => {
  await site.visit(`/runs?q=${MANY}&sort=name`, async ({ page }) => {
    await page.waitForSelector('.window .name a');
    await page.click('input[aria-label="Select all runs"]');
    await page.waitForSelector('button:has-text("Compare 3")');
    expect((await page.textContent('.notice button:has-text("Compare")'))?.replace(/\D/g, '')).toBe(
      String(MANY_RUNS),
    );
    await page.click('input[aria-label="Select all runs"]');
    await page.locator('.window [role=row] input').nth(3).click();
    await page.locator('.scroller').evaluate(element => (element.scrollTop = 1_000 * 34));
    const last = page.locator('[role=row]:has(a:text-is("many 1002")) input');
    await last.click({ modifiers: ['Shift'] });
    await eventually(
      'the range is selected',
      async () =>
        (await page.textContent('.notice button:has-text("Compare")'))?.replace(/\D/g, '') ===
        '1000',
    );
  });
});

test('columns are sorted by several keys, by the server', async () => {
  await site.visit(`/runs?q=${SWEEP}&columns=${COLUMNS}`, async visit => {
    const { page } = visit;
    await page.waitForSelector('.window .name a');
    await page.click('.sort:has-text("optimizer")');
    await page.waitForURL(/sort=/);
    await page.click('.sort:has-text("batch_size")', { modifiers: ['Shift'] });
    await page.waitForSelector('.sort b:text-is("↓2")');
    const titles = await page.locator('[role=columnheader]').allTextContents();
    const column = async (title: string): Promise<string[]> => {
      const at = titles.findIndex(text => text.includes(title));
      return (await page.locator(`.window [role=cell]:nth-child(${at + 1})`).allTextContents()).map(
        text => text.trim(),
      );
    };
    await eventually('both are sorted', async () => {
      const optimizers = await column('optimizer');
      const sizes = (await column('batch_size')).map(Number);
      const keys = optimizers.map((optimizer, at) => [optimizer, sizes[at] ?? 0] as const);
      const sorted = [...keys].sort(([a, x], [b, y]) => (a === b ? y - x : a < b ? 1 : -1));
      return keys.length > 10 && JSON.stringify(keys) === JSON.stringify(sorted);
    });
    await page.goBack();
    await eventually(
      'one key is left',
      async () => (await page.locator('.sort b').allTextContents()).join() === '↓',
    );
  });
});

test('the lowest value of a metric is a column of its own order', async () => {
  await site.visit(`/runs?q=${SWEEP}&columns=${COLUMNS}`, async ({ page }) => {
    await page.waitForSelector('.window .name a');
    await choose(page, 'loss val', 'Show the lowest value');
    await page.click('.sort:has-text("loss val min")');
    // The first order of a loss begins with the lowest, because that is the best.
    await page.waitForURL(/sort=min/);
    await page.waitForSelector('[role=columnheader][aria-sort=ascending]:has-text("loss val min")');
  });
});

test('runs are sorted and grouped by their status', async () => {
  await site.visit('/runs?columns=status', async ({ page }) => {
    await page.waitForSelector('.window .name a');
    await page.click('.sort:has-text("Status")');
    await page.waitForSelector('[role=columnheader][aria-sort=ascending]:has-text("Status")');
    await choose(page, 'Status', 'Group by it');
    await page.waitForSelector('.window button[aria-expanded]');
    const groups = (await page.locator('.window button[aria-expanded] b').allTextContents()).map(
      text => text.trim(),
    );
    expect(groups).toEqual([...groups].sort());
    expect(groups).toContain('finished');
  });
});

test.each(['light', 'dark'] as const)('runs are grouped, and the URL has it, %s', async theme => {
  await site.visit(
    `/runs?q=${SWEEP}&columns=${COLUMNS}`,
    async visit => {
      const { page } = visit;
      await page.waitForSelector('.window .name a');
      const all = Number(await page.textContent('.page-head [role=status]'));
      await choose(page, 'optimizer', 'Group by it');
      const headings = page.locator('.window button[aria-expanded]');
      await page.waitForSelector('.window button[aria-expanded]');
      expect(await headings.count()).toBe(3);
      const counts = (await page.locator('.heading .digits').allTextContents()).map(Number);
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(all);
      await headings.first().click();
      await eventually('its runs are shown', async () => (await shown(page)).length === counts[0]);
      await visit.shot(`runs-groups-${theme}`);
      expect(await findings(page)).toEqual([]);
      const names = await shown(page);
      await page.reload();
      await eventually('the URL has it', async () => (await shown(page)).join() === names.join());
      await choose(page, 'Experiment', 'Group by it');
      await eventually('there are more groups', async () => (await headings.count()) > 3);
      await page.goBack();
      await eventually('going back undoes it', async () => (await headings.count()) === 3);
      await page.click('button[title="Do not group by it"]');
      await eventually('there are no groups', async () => (await headings.count()) === 0);
      expect(Number(await page.textContent('.page-head [role=status]'))).toBe(all);
    },
    { theme },
  );
});

test('a group shows the mean of its runs, and the lowest and the highest', async () => {
  const columns = encodeURIComponent('metric:loss {"subset":"val"}');
  await site.visit(
    `/runs?q=${SWEEP}&columns=${columns}&by=param%3Ahparams.optimizer`,
    async ({ page }) => {
      const heading = page.locator('.window button[aria-expanded]').first();
      await heading.click();
      const count = Number(await page.locator('.heading .digits').first().textContent());
      const swatches = page.locator('.heading svg rect[style]');
      const colors = await swatches.evaluateAll(all => all.map(one => getComputedStyle(one).fill));
      expect(new Set(colors).size).toBe(3);
      await eventually('its runs are shown', async () => (await shown(page)).length === count);
      const runs = page.locator('.window [role=row]:has(.name) > [role=cell]:last-child');
      const values = await eventually('their values are shown', async () => {
        const all = (await runs.allTextContents()).map(text =>
          text.trim() === '' ? NaN : Number(text),
        );
        return all.length === count && !all.some(Number.isNaN) ? all : undefined;
      });
      const group = page
        .locator('.window [role=row]:has(.heading)')
        .first()
        .locator('[role=cell]')
        .last();
      const range = (await group.locator('small').textContent())!;
      const mean = Number((await group.textContent())!.replace(range, ''));
      const [low = NaN, high = NaN] = range.split('…').map(Number);
      // The mean is rounded to five digits, and the ends of the range to three.
      expect(mean / (values.reduce((sum, value) => sum + value, 0) / count)).toBeCloseTo(1, 4);
      expect(low / Math.min(...values)).toBeCloseTo(1, 2);
      expect(high / Math.max(...values)).toBeCloseTo(1, 2);
      expect(low).toBeLessThan(high);
    },
  );
});

test('a table is searched once, and not again by changes of other fields of the URL', async () => {
  await site.visit(`/runs?q=${SWEEP}&columns=${COLUMNS}`, async visit => {
    const { page } = visit;
    await page.waitForSelector('.window .name a');
    expect(searches(visit)).toBe(1);
    await choose(page, 'Created', 'Wider');
    await page.waitForURL(/widths=/);
    // A search that began with the change comes before this one.
    await page.click('.sort:has-text("Name")');
    await page.waitForSelector('[role=columnheader][aria-sort=ascending]');
    await eventually('it is sorted', () => searches(visit) >= 2);
    expect(searches(visit)).toBe(2);
  });
});

test('a run on top that was deleted is left out', async () => {
  const [known] = site.runs.hashes;
  await site.visit(`/runs?pins=${known},${'0'.repeat(24)}`, async ({ page, calls }) => {
    await eventually(
      'one is on top',
      async () => (await page.locator('.header .pin').count()) === 1,
    );
    expect(calls).toContain('RunService/BatchGet');
  });
});

test('columns are found by the server', async () => {
  await site.visit(`/runs?q=${SWEEP}&columns=${COLUMNS}`, async ({ page, calls }) => {
    await page.waitForSelector('.window .name a');
    await page.keyboard.press('c');
    await page.fill('input[aria-label="Search columns"]', 'DROPOUT model');
    await page.click('label:has-text("hparams.model.dropout")');
    await page.keyboard.press('Escape');
    await page.waitForSelector('[role=columnheader]:has-text("dropout")');
    expect(calls).toContain('ProjectService/FindColumns');
    expect(calls).not.toContain('ProjectService/Params');
  });
});

test('all runs of a query are changed, a page of ids at a time, except for those whose box is cleared', async () => {
  await site.visit(`/runs?q=${MANY}&sort=name`, async visit => {
    const { page } = visit;
    await page.waitForSelector('.window .name a');
    await page.click('input[aria-label="Select all runs"]');
    await page.waitForSelector('button:has-text("Compare 3")');
    // One page of ids is read, however many runs there are.
    const pages = visit
      .requests(SearchService.method.runs)
      .filter(({ idsOnly, limit }) => idsOnly && limit > 1);
    expect(pages.length).toBe(1);
    await page.locator('[role=row]:has(a:text-is("many 0002")) input').click();
    await page.waitForSelector('button:has-text("Compare 2")');
    await page.click('button[aria-label="Actions for the selected runs"]');
    await page.click('[role=menuitem]:text-is("Archive")');
    await eventually(
      'only that run is left',
      async () => (await shown(page)).join() === 'many 0002',
    );
    const archived = encodeURIComponent('"many" in run.name and run.archived == True');
    await page.goto(`${visit.base}/runs?q=${archived}&sort=name`);
    await eventually('all others are archived', async () => {
      const count = await page.textContent('.page-head [role=status]');
      return count?.replace(/\D/g, '') === String(MANY_RUNS - 1);
    });
  });
});

test('a range over rows that were not read is refused once they have moved', async () => {
  const q = encodeURIComponent('"many" in run.name and run.archived in (True, False)');
  await site.visit(`/runs?q=${q}&sort=name`, async ({ page }) => {
    await page.waitForSelector('.window .name a');
    await page.waitForSelector('.stream:has-text("Live")');
    const scrollTo = (row: number): Promise<number> =>
      page.locator('.scroller').evaluate((element, top) => (element.scrollTop = top), row * 34);
    await scrollTo(1_000);
    await page.locator('[role=row]:has(a:text-is("many 1002")) input').click();
    await scrollTo(0);
    await page.waitForSelector('.window .name a:text-is("many 0000")');
    await publish(site.server, 'another0000000000000000a', [
      { kind: { case: 'createRun', value: {} } },
      { kind: { case: 'setRunProperty', value: { name: 'many 0500 too' } } },
    ]);
    await page.waitForSelector('button:text-is("1 new run")');
    await page
      .locator('.window [role=row] input')
      .nth(3)
      .click({ modifiers: ['Shift'] });
    await page.getByText('The rows have moved, because runs came or left.').waitFor();
    await page.getByText('1 selected').waitFor();
  });
});

test('an order that a running run has changed says so, and is sorted again by a click', async () => {
  const log = (
    number: number,
    step: number,
    value: number,
    events: Parameters<typeof publish>[2],
  ) =>
    publish(site.server, `0rde${String(number).padStart(20, '0')}`, events, {
      series: [{ name: 'cost' }],
      points: [{ series: [0], steps: [BigInt(step)], values: [value] }],
    });
  for (let number = 0; number < 4; number++)
    await log(number, 0, number + 1, [
      { kind: { case: 'createRun', value: {} } },
      { kind: { case: 'setRunProperty', value: { name: `unordered ${number}` } } },
    ]);
  // The table adds no run by itself.
  const applied = '"unordered" in run.name and run.metrics["cost"].last > 0';
  await eventually(
    'all runs are applied',
    async () => (await matchCount(site.server, applied)) === 4,
  );
  await site.visit('/runs?q=unordered&sort=metric:cost&columns=metric:cost', async visit => {
    const { page } = visit;
    const again = page.getByRole('button', { name: '1 run has changed · Update' });
    await eventually('the lowest first', async () => (await shown(page))[0] === 'unordered 0');
    expect(await again.count()).toBe(0);
    await log(3, 1, 0.5, []);
    await again.waitFor();
    expect((await shown(page))[0]).toBe('unordered 0');
    await visit.shot('runs-order-changed');
    expect(await findings(page)).toEqual([]);
    await again.click();
    await eventually(
      'the run that is lowest now',
      async () => (await shown(page))[0] === 'unordered 3',
    );
    await again.waitFor({ state: 'detached' });
  });
});
