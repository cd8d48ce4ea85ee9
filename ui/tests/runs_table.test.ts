/**
 * Actions of a reader on the rows and columns of the runs table, in Chromium against the real
 * server.
 */
import { readFile } from 'node:fs/promises';

import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { OutcomeKind } from '../src/gen/matyan/common/v1/common_pb.ts';
import { SeriesService } from '../src/gen/matyan/series/v1/series_pb.ts';
import { encodeCbor } from '../src/api/cbor_writer.ts';
import { eventually, findings, held, publish, Site, Visit } from './harness.ts';

let site: Site;
beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

const SWEEP = encodeURIComponent('"sweep" in run.name');

async function titles(page: Page): Promise<string[]> {
  return page.locator('[role=columnheader] > span, .sort > span').allTextContents();
}

async function select(page: Page, rows: number[]): Promise<void> {
  await page.waitForSelector('.window .name a');
  for (const row of rows) await page.locator('.window [role=row] input').nth(row).click();
}

async function act(page: Page, title: string): Promise<void> {
  await page.click('button[aria-label="Actions for the selected runs"]');
  await page.click(`[role=menuitem]:has-text("${title}"):visible`);
}

test.each(['light', 'dark'] as const)('a baseline, pins and a selection, %s', async theme => {
  await site.visit(
    `/runs?q=${SWEEP}`,
    async visit => {
      const { page } = visit;
      await select(page, [2]);
      await act(page, 'Use as baseline');
      await page.waitForURL(/baseline=/);
      await page.waitForSelector('.window small:has-text("%")');
      await select(page, [5, 6]);
      await act(page, 'Keep on top');
      await page.waitForURL(/pins=/);
      await page.waitForSelector('.header .pin >> nth=2');
      expect(await page.locator('.header .pin').count()).toBe(3);
      // The differences of a metric are equally wide, so the points of its values are below each other.
      const widths = await page
        .locator('.window [role=cell]:nth-child(6) small')
        .evaluateAll(all => all.map(small => small.getBoundingClientRect().width));
      expect(widths.length).toBeGreaterThan(10);
      expect(new Set(widths).size).toBe(1);
      // The baseline has no difference to itself, and its values are in line with the others.
      const first = page.locator('.header [role=row]:has(.pin) >> nth=0');
      expect(await first.locator('small.digits').allTextContents()).toSatisfy((all: string[]) =>
        all.every(text => text === ''),
      );
      const own = first.locator('[role=cell]:nth-child(6) small');
      expect(await own.evaluate(small => small.getBoundingClientRect().width)).toBe(widths[0]);
      await visit.shot(`runs-baseline-${theme}`);
      expect(await findings(page)).toEqual([]);
    },
    { theme },
  );
});

test('columns are moved, pinned, resized and hidden, and the URL has it', async () => {
  await site.visit(`/runs?q=${SWEEP}`, async ({ page }) => {
    await page.waitForSelector('.window .name a');
    const before = await titles(page);
    expect(before.slice(0, 4)).toEqual(['Name', 'Status', 'Experiment', 'Created']);
    const left = async (selector: string): Promise<number> =>
      (await page.locator(selector).first().boundingBox())!.x;
    expect(await left('[role=columnheader]:has-text("Name")')).toBe(await left('.window .name'));
    const choose = async (column: string, title: string): Promise<void> => {
      await page.focus(`button[aria-label="Column ${column}"]`);
      await page.keyboard.press('Enter');
      await page.click(`[role=menuitem]:text-is("${title}"):visible`);
    };
    await choose('Created', 'Move left');
    await eventually('it is moved', async () => (await titles(page))[2] === 'Created');
    await page.dragAndDrop(
      '[role=columnheader]:has-text("Experiment")',
      '[role=columnheader]:has-text("Status")',
    );
    await eventually('it is dragged', async () => (await titles(page))[1] === 'Experiment');
    await choose('lr', 'Pin to the left');
    await eventually('it is pinned', async () => (await titles(page))[1] === 'lr');
    await choose('Status', 'Hide');
    await eventually('it is hidden', async () => !(await titles(page)).includes('Status'));
    // The pinned column was at the right end, to which the focus has scrolled.
    await page.locator('.scroller').evaluate(scroller => scroller.scrollTo(0, 0));
    const heading = page.locator('[role=columnheader]:has-text("Experiment")');
    const width = (await heading.boundingBox())!.width;
    const handle = (await heading.locator('.resize').boundingBox())!;
    await page.mouse.move(handle.x + 3, handle.y + 5);
    await page.mouse.down();
    await page.mouse.move(handle.x + 63, handle.y + 5, { steps: 3 });
    await page.mouse.up();
    expect((await heading.boundingBox())!.width).toBeCloseTo(width + 60, -1);
    const after = await titles(page);
    await page.reload();
    await page.waitForSelector('.window .name a');
    expect(await titles(page)).toEqual(after);
    expect((await heading.boundingBox())!.width).toBeCloseTo(width + 60, -1);
  });
});

test('the usual columns come back by a reset and by going back', async () => {
  await site.visit(`/runs?q=${SWEEP}`, async ({ page }) => {
    await page.waitForSelector('.window .name a');
    const usual = await titles(page);
    const hide = async (): Promise<void> => {
      await page.focus('button[aria-label="Column Created"]');
      await page.keyboard.press('Enter');
      await page.click('[role=menuitem]:text-is("Hide"):visible');
      await eventually('it is hidden', async () => !(await titles(page)).includes('Created'));
    };
    const isUsual = async (): Promise<boolean> => String(await titles(page)) === String(usual);
    await hide();
    await page.goBack();
    await eventually('it is back', isUsual);
    await hide();
    await page.click('button:text-is("Columns")');
    await page.click('dialog button:text-is("Reset")');
    await eventually('it is back again', isUsual);
  });
});

test('two columns that are hidden in quick succession both go', async () => {
  await site.visit(`/runs?q=${SWEEP}`, async ({ page }) => {
    await page.waitForSelector('.window .name a');
    const release = await held(page, 'SearchService/Runs');
    for (const column of ['Status', 'Created']) {
      await page.focus(`button[aria-label="Column ${column}"]`);
      await page.keyboard.press('Enter');
      await page.click('[role=menuitem]:text-is("Hide"):visible');
    }
    await release();
    await eventually('both are hidden', async () => {
      const shown = await titles(page);
      return !shown.includes('Status') && !shown.includes('Created');
    });
  });
});

test('a range selects the rows that are shown, whatever came meanwhile', async () => {
  await site.visit('/runs', async visit => {
    const { page } = visit;
    await select(page, [0]);
    const shown = (await page.locator('.window .name a').allTextContents()).slice(0, 3);
    const id = await site.project.start('came meanwhile');
    await page.waitForSelector('button:text-is("1 new run")');
    await page
      .locator('.window [role=row] input')
      .nth(2)
      .click({ modifiers: ['Shift'] });
    await page.getByText('3 selected').waitFor();
    // Selected runs that another query does not find are exported too.
    await page.evaluate(path => history.pushState({}, '', path), `/runs?q=run.hash == "${id}"`);
    await page.evaluate(() => dispatchEvent(new PopStateEvent('popstate')));
    await page.waitForSelector('.window .name a:text-is("came meanwhile")');
    const waiting = page.waitForEvent('download');
    await act(page, 'Export as CSV');
    const lines = (await readFile(await (await waiting).path(), 'utf8')).trim().split('\n');
    const names = lines.slice(1).map(line => line.split(',')[1]);
    expect(names).toEqual(shown);
  });
});

test('values that could not be read again are read later', async () => {
  const open = await Visit.open(site.browser, site.server, '/runs');
  const { page } = open;
  const live = page.locator('.window [role=row]', { hasText: 'live' }).first();
  await live.waitFor();
  let refused = 0;
  await page.route('**/*.RunService/BatchGet', route =>
    refused++ === 0 ? route.fulfill({ status: 503 }) : route.continue(),
  );
  await site.project.track(12.345);
  await eventually('a refresh fails', () => refused > 0);
  // Nothing else changes.
  await page.getByText('12.345').first().waitFor();
  await page.context().close();
});

test('results are in view on a small screen', async () => {
  await site.visit(
    `/runs?q=${SWEEP}`,
    async visit => {
      const { page } = visit;
      await page.waitForSelector('.window .name a');
      const all = await titles(page);
      const results = ['loss val', 'accuracy val'].map(title => all.indexOf(title));
      expect(Math.min(...results)).toBeGreaterThan(0);
      expect(Math.max(...results)).toBeLessThan(all.indexOf('Duration'));
      for (const at of results) {
        const box = (await page
          .locator('[role=columnheader]')
          .nth(at + 1)
          .boundingBox())!;
        expect(box.x + box.width).toBeLessThanOrEqual(1280);
      }
      await visit.shot('runs-1280');
    },
    { width: 1280, height: 720 },
  );
});

test.each(['light', 'dark'] as const)(
  'a column of curves is read for the rows in view, %s',
  async theme => {
    await site.visit(
      `/runs?q=${SWEEP}`,
      async visit => {
        const { page } = visit;
        await page.waitForSelector('.window .name a');
        await page.evaluate(countReads);
        await page.focus('button[aria-label="Column loss val"]');
        await page.keyboard.press('Enter');
        await page.click('[role=menuitem]:text-is("Show the curve"):visible');
        await page.waitForURL(/columns=.*curve%3Aloss/);
        const curves = page.locator('.window canvas');
        const points = (): Promise<number[]> =>
          curves.evaluateAll(all => all.map(one => Number((one as HTMLElement).dataset.points)));
        await eventually('all are drawn', async () => {
          const all = await points();
          return all.length > 10 && all.every(count => count > 40);
        });
        const most = await page.evaluate(() => (globalThis as unknown as { most: number }).most);
        expect(most).toBeGreaterThan(0);
        expect(most).toBeLessThanOrEqual(3);
        // All rows are read by one call.
        const rows = await page.locator('.window [role=row]').count();
        const [read, ...others] = visit.requests(SeriesService.method.buckets);
        expect([read?.runs.length, others]).toEqual([rows, []]);
        expect((await page.locator('.window [role=row]').first().boundingBox())!.height).toBe(34);
        const isBlank = await curves.first().evaluate(one => {
          const canvas = one as HTMLCanvasElement;
          const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
          return data.every(value => value === 0);
        });
        expect(isBlank).toBe(false);
        await visit.shot(`runs-curves-${theme}`);
        expect(await findings(page)).toEqual([]);
      },
      { theme },
    );
  },
);

test('the curve of a run that is active grows', async () => {
  const q = encodeURIComponent('run.name == "live run"');
  const column = encodeURIComponent('curve:loss {"subset":"train"}');
  await site.visit(`/runs?q=${q}&columns=${column}`, async ({ page }) => {
    const curve = page.locator('.window canvas');
    const points = async (): Promise<number> => Number(await curve.getAttribute('data-points'));
    const before = await eventually('it is drawn', points);
    await site.project.track(0.5);
    await eventually('it has the new point', async () => (await points()) === before + 1);
  });
});

test('up to twelve runs have different colors, the same in the table and next to their charts', async () => {
  const runs = site.runs.hashes.slice(0, 12);
  const q = encodeURIComponent(`run.hash in ${JSON.stringify(runs)}`);
  const column = encodeURIComponent('curve:loss {"subset":"train"}');
  const colors = (path: string): Promise<Record<string, string>> =>
    site.visit(`${path}?q=${q}&columns=${column}`, async visit => {
      const { page } = visit;
      const links = page.locator('.window a.ink');
      await eventually('all runs are there', async () => (await links.count()) === runs.length);
      await visit.quiet();
      await visit.shot(`colors-${path.slice(1)}`);
      const found = await links.evaluateAll(all =>
        all.map(link => [
          link.getAttribute('href')!,
          getComputedStyle(link.parentElement!.querySelector('rect')!).fill,
        ]),
      );
      return Object.fromEntries(found) as Record<string, string>;
    });
  const own = await colors('/runs');
  expect(new Set(Object.values(own)).size).toBe(runs.length);
  expect(await colors('/metrics')).toEqual(own);
});

test('columns with equal values are hidden', async () => {
  await site.visit(
    `/runs?q=${encodeURIComponent('run.experiment == "baseline"')}`,
    async ({ page }) => {
      await page.waitForSelector('.window .name a');
      expect(await titles(page)).toContain('Experiment');
      await page.click('label:has-text("Differences") input');
      await eventually('it is hidden', async () => !(await titles(page)).includes('Experiment'));
      expect(await titles(page)).toContain('Duration');
      await page.goBack();
      await eventually('it is back', async () => (await titles(page)).includes('Experiment'));
    },
  );
});

test('selected runs are exported, tagged, moved, archived and deleted', async () => {
  await site.visit(`/runs?q=${SWEEP}&sort=name`, async visit => {
    const { page } = visit;
    await select(page, [0, 1]);
    const waiting = page.waitForEvent('download');
    await act(page, 'Export as CSV');
    const lines = (await readFile(await (await waiting).path(), 'utf8')).trim().split('\n');
    expect(lines.length).toBe(3);
    expect(lines[0]).toMatch(/^run,name,Status,Experiment,Created,.*,Duration,Tags\b/);
    expect(lines[1]).toMatch(/^[0-9a-f]{24},resnet50 sweep 01,finished,/);
    await act(page, 'Add a tag');
    await page.fill('dialog[open] input', 'chosen');
    await page.keyboard.press('Enter');
    await eventually(
      'both are tagged',
      async () => (await page.locator('.window [role=cell] :text("chosen")').count()) === 2,
    );
    await act(page, 'Move');
    await page.fill('dialog[open] input', 'elsewhere');
    await page.keyboard.press('Enter');
    await eventually(
      'both are moved',
      async () => (await page.locator('.window :text-is("elsewhere")').count()) === 2,
    );
    const edits = visit.calls.filter(call => /^RunService\/(Update|AddTag|Move)/.test(call));
    expect(edits).toEqual(['RunService/AddTagBatch', 'RunService/MoveBatch']);
    await act(page, 'Archive');
    await page.waitForSelector('.name a:has-text("sweep 01")', { state: 'detached' });
    await select(page, [0]);
    const name = await page.locator('.window .name a').first().textContent();
    await act(page, 'Delete');
    await page.waitForSelector('dialog[open]:has-text("For a week")');
    expect(await page.textContent('dialog[open] h2')).toBe(`Move ${name} to the bin?`);
    expect(await findings(page)).toEqual([]);
    await visit.shot('runs-delete');
    await page.click('dialog[open] button:has-text("Move to the bin")');
    await page.waitForSelector(`.name a:text-is("${name}")`, { state: 'detached' });
  });
});

test.each([1280, 390])(
  'rows stay where they are while some are selected, %d pixels wide',
  async width => {
    const q = encodeURIComponent('"sweep" in run.name and run.hparams.batch_size >= 16');
    await site.visit(
      `/runs?q=${q}`,
      async visit => {
        const { page } = visit;
        await page.waitForSelector('.window .name a');
        const top = async (): Promise<number> =>
          (await page.locator('.window [role=row]').first().boundingBox())!.y;
        const before = await top();
        await select(page, [0, 1]);
        await page.getByRole('button', { name: 'Compare 2' }).waitFor();
        expect(await top()).toBe(before);
        await visit.shot(`runs-selected-${width}`);
        expect(await findings(page)).toEqual([]);
      },
      { width },
    );
  },
);

test('all runs of a query are archived, and taken back, by one call each', async () => {
  const archived = '/runs?q=run.archived == True and run.hparams.batch_size';
  await site.visit(archived, async visit => {
    const { page } = visit;
    const count = async (): Promise<number> =>
      Number((await page.textContent('.page-head [role=status]'))?.replace(/\D/g, ''));
    const none = page.getByText('No run matches this query');
    await page.locator('.window .name a').or(none).first().waitFor();
    const before = await count();
    await page.goto(`${visit.base}/runs?q=run.hparams.batch_size and not run.active`);
    await page.locator('.window .name a').first().waitFor();
    const found = await count();
    expect(found).toBeGreaterThan(0);
    const calls = (): number =>
      visit.calls.filter(call => call.startsWith('RunService/Archive')).length;
    await page.getByRole('checkbox', { name: 'Select all runs' }).click();
    await act(page, 'Archive');
    await none.waitFor();
    expect(calls()).toBe(1);
    await page.goto(visit.base + archived);
    await page.locator('.window .name a').first().waitFor();
    expect(await count()).toBe(before + found);
    await page.getByRole('checkbox', { name: 'Select all runs' }).click();
    await act(page, 'Take out of the archive');
    await none.waitFor();
    expect(calls()).toBe(2);
  });
});

test('a click on a value finds the runs with it, and each filter can be removed', async () => {
  await site.visit('/runs', async visit => {
    const { page } = visit;
    const query = (): string => new URL(page.url()).searchParams.get('q') ?? '';
    const remove = (condition: string) =>
      page.getByRole('button', { name: `Remove the filter ${condition}`, exact: true });
    const adam = 'run.hparams.optimizer == "adam"';
    const finished = 'run.outcome == "finished"';
    await page.locator('.window [role=cell] a', { hasText: 'adam' }).first().click();
    await remove(adam).waitFor();
    expect(query()).toBe(adam);
    await eventually(
      'only its runs are shown',
      async () => (await page.locator('.window a:text-is("sgd")').count()) === 0,
    );
    await page.locator('.window a', { hasText: 'Finished' }).first().click();
    await remove(finished).waitFor();
    expect(query()).toBe(`${adam} and ${finished}`);
    await visit.shot('runs-filters');
    expect(await findings(page)).toEqual([]);
    await remove(adam).click();
    await eventually('one filter is left', () => query() === finished);
    await page.locator('.window a', { hasText: 'sgd' }).first().waitFor();
  });
  await site.visit(`/runs/${site.runs.hashes[5]}?tab=params`, async ({ page }) => {
    const value = page.locator('[role=cell] a').first();
    const condition = (await value.getAttribute('title'))!.replace('Find runs with ', '');
    await value.click();
    await page.waitForURL(/\/runs\?q=run.hparams/);
    await page
      .getByRole('button', { name: `Remove the filter ${condition}`, exact: true })
      .waitFor();
    await page.locator('.window .name a').first().waitFor();
    expect(await page.locator('.query [role=status]').textContent()).toBe('');
  });
});

test('values of a run are reached by keyboard, and find the runs with them', async () => {
  await site.visit(`/runs?q=${SWEEP}`, async ({ page }) => {
    await page.waitForSelector('.window .name a');
    const condition = (): Promise<string> =>
      page.evaluate(
        () => document.activeElement?.getAttribute('title')?.replace('Find runs with ', '') ?? '',
      );
    await page.keyboard.press('?');
    await page.waitForSelector(
      'dialog[open] [role=option]:has-text("Next value of the run") kbd:text-is("L")',
    );
    await page.keyboard.press('Escape');
    // After values of one run, the keys for runs are not the keys of its links.
    for (const key of ['j', 'l', 'l', 'j']) await page.keyboard.press(key);
    expect(await condition()).toBe('');
    const found: string[] = [];
    do {
      await page.keyboard.press('l');
      found.push(await condition());
    } while (!found.at(-1)?.startsWith('run.hparams.optimizer ') && found.length < 30);
    expect(new Set(found).size).toBe(found.length);
    expect(
      await page.evaluate(() => document.activeElement?.closest('.row.focused') !== null),
    ).toBe(true);
    await page.keyboard.press('h');
    expect(await condition()).toBe(found.at(-2));
    await page.keyboard.press('l');
    await page.keyboard.press('Enter');
    await page.waitForURL(
      url => url.searchParams.get('q') === `"sweep" in run.name and ${found.at(-1)}`,
    );
    // Runs that the new search does not find would leave with the focus.
    await page.waitForSelector('.table[aria-busy=false]');
    for (const key of ['j', 'l', 'j', 'Enter']) await page.keyboard.press(key);
    await page.waitForURL(/\/runs\/\w+(\?|$)/);
  });
});

test.each([1400, 900, 390])(
  'neither filters nor a selection nor a failure moves rows, at %i pixels',
  async width => {
    await site.visit(
      '/runs',
      async visit => {
        const { page, errors } = visit;
        await page.locator('.window .name a').first().waitFor();
        const rows = page.locator('.window [role=row]');
        const top = async (): Promise<number> => (await rows.first().boundingBox())!.y;
        const before = await top();
        await page.evaluate(observeMoves);
        const condition = 'not run.active and run.archived == False';
        await page.evaluate(path => history.pushState({}, '', path), `/runs?q=${condition}`);
        await page.evaluate(() => dispatchEvent(new PopStateEvent('popstate')));
        const filters = page.locator('button[aria-label^="Remove the filter"]');
        await eventually('the filters are there', async () => (await filters.count()) === 2);
        await select(page, [1, 3]);
        await page.waitForSelector('button:has-text("Compare 2")');
        await page.locator('[role=columnheader] input').click();
        // The selection is a search, too, whose failure would be a notice above the buttons. The box is
        // checked at once, and the number changes when the search has ended.
        await page.getByText('2 selected', { exact: true }).waitFor({ state: 'detached' });
        await page.route('**/*.SearchService/Runs', route => route.fulfill({ status: 503 }));
        // A search that follows the runs may have failed before, and its message cover the button.
        await page.locator('[role=columnheader] button').first().dispatchEvent('click');
        await page.waitForSelector('[role=alert] button:has-text("Retry")');
        expect(await top()).toBe(before);
        await visit.shot(`runs-failed-${width}`);
        await page.unroute('**/*.SearchService/Runs');
        expect(errors.splice(0).every(text => text.includes('503'))).toBe(true);
        await page.click('[role=alert] button:has-text("Retry")');
        await page.waitForSelector('[role=alert]', { state: 'detached' });
        await page.click('button:has-text("Clear")');
        await filters.first().click();
        await eventually('a filter is gone', async () => (await filters.count()) === 1);
        expect(await top()).toBe(before);
        expect(
          await page.evaluate(() => (globalThis as unknown as { moves: string[] }).moves),
        ).toEqual([]);
      },
      { width },
    );
  },
);

/** Creates an active run, and returns a function that ends it. */
async function createRun(
  id: string,
  name: string,
): Promise<(kind: OutcomeKind, message?: string) => Promise<void>> {
  await publish(site.server, id, [
    { kind: { case: 'createRun', value: {} } },
    { kind: { case: 'setRunProperty', value: { name } } },
  ]);
  return (kind, message) =>
    publish(site.server, id, [
      { kind: { case: 'finishRun', value: { outcome: { kind, message } } } },
    ]);
}

test('the duration of a running run grows, and its row shows by itself that it has finished', async () => {
  const finish = await createRun('1ace'.repeat(6), 'short run');
  await createRun('2ace'.repeat(6), 'longer run');
  const q = encodeURIComponent('run.name in ("short run", "longer run")');
  await site.visit(`/runs?q=${q}&columns=status,duration`, async ({ page }) => {
    const cell = (name: string, column: number) =>
      page.locator('.window [role=row]', { hasText: name }).locator('[role=cell]').nth(column);
    const duration = async (name: string): Promise<string> =>
      (await cell(name, 3).textContent())?.trim() ?? '';
    const grows = async (name: string): Promise<void> => {
      const before = await duration(name);
      await eventually(
        `the duration of ${name} grows`,
        async () => (await duration(name)) !== before,
      );
    };
    await cell('short run', 2).filter({ hasText: 'Running' }).waitFor();
    await page.waitForSelector('.stream:has-text("Live")');
    await grows('short run');
    await finish(OutcomeKind.FINISHED);
    await cell('short run', 2).filter({ hasText: 'Finished' }).waitFor();
    const last = await duration('short run');
    expect(last).toMatch(/^\d/);
    for (let tick = 0; tick < 2; tick++) await grows('longer run');
    expect(await duration('short run')).toBe(last);
  });
});

test('runs that failed or were interrupted are shown as such', async () => {
  const ends = [
    [OutcomeKind.FAILED, 'Failed', 'bad', 'out of memory'],
    [OutcomeKind.INTERRUPTED, 'Interrupted', 'warn', 'stopped by its user'],
    [OutcomeKind.FINISHED, 'Finished', 'weak', ''],
  ] as const;
  const names = ends.map(([, title]) => `run that ended: ${title}`);
  for (const [at, [kind, , , message]] of ends.entries()) {
    const end = await createRun(`${at}fee`.repeat(6), names[at]!);
    await end(kind, message);
  }
  const q = encodeURIComponent('"run that ended" in run.name');
  await site.visit(`/runs?q=${q}&columns=status`, async visit => {
    const { page, base } = visit;
    const look = async (
      status: ReturnType<Page['locator']>,
      end: (typeof ends)[number],
    ): Promise<void> => {
      const [, title, look, message] = end;
      await status.filter({ hasText: title }).waitFor();
      expect((await status.getAttribute('class'))?.split(' ')).toContain(look);
      expect(await status.getAttribute('title')).toBe(message || null);
    };
    for (const [at, end] of ends.entries())
      await look(
        page.locator('.window [role=row]', { hasText: names[at] }).locator('.status'),
        end,
      );
    await visit.shot('runs-outcomes');
    expect(await findings(page)).toEqual([]);
    for (const [at, end] of ends.entries()) {
      await page.goto(`${base}/runs/${`${at}fee`.repeat(6)}?tab=overview`);
      await look(page.locator('.head-of-tabs .status'), end);
    }
    await page.goto(`${base}/runs/${'0fee'.repeat(6)}`);
    await page.locator('.head-of-tabs p.bad:has-text("out of memory")').waitFor();
    await visit.shot('run-failed');
  });
});

/** Counts how many reads of series run at the same time, until the last byte of each has arrived. */
function countReads(): void {
  const counts = globalThis as unknown as { most: number };
  const original = fetch;
  counts.most = 0;
  let running = 0;
  globalThis.fetch = async (input, init) => {
    if (!String(input).endsWith('/Buckets')) return original(input, init);
    counts.most = Math.max(counts.most, (running += 1));
    const response = await original(input, init);
    const end = new TransformStream<Uint8Array, Uint8Array>({ flush: () => void (running -= 1) });
    return new Response(response.body?.pipeThrough(end), response);
  };
}

/** Lists the moves of the table and its rows; whatever is in a cell is of another run after a search. */
function observeMoves(): void {
  const moves: string[] = ((globalThis as unknown as { moves: string[] }).moves = []);
  new PerformanceObserver(list => {
    for (const entry of list.getEntries() as (PerformanceEntry & {
      sources: LayoutShiftSource[];
    })[])
      for (const { node, previousRect, currentRect } of entry.sources)
        if (
          node instanceof Element &&
          node.matches('[role=table], [role=table] :is([role=row], .scroller, .window)')
        )
          moves.push(`${node.className}: ${previousRect.y} to ${currentRect.y}`);
  }).observe({ type: 'layout-shift' });
}

interface LayoutShiftSource {
  node: Node | null;
  previousRect: DOMRectReadOnly;
  currentRect: DOMRectReadOnly;
}

test('a column that differs in the last row only is shown from the first row on', async () => {
  // More than a page of rows, the newest first.
  for (let number = 0; number < 90; number++) {
    const value = encodeCbor({
      varied: { first: number === 0 ? 'odd' : 'usual', same: 1, list: [number === 0 ? 1 : 2] },
    });
    await publish(site.server, `a${String(number).padStart(23, '0')}`, [
      { kind: { case: 'createRun', value: {} } },
      { kind: { case: 'setRunProperty', value: { name: `varied ${number}` } } },
      { kind: { case: 'logParams', value: { value } } },
      { kind: { case: 'finishRun', value: {} } },
    ]);
  }
  const columns = 'status,created,param:varied.first,param:varied.same,param:varied.list';
  const q = encodeURIComponent('"varied" in run.name');
  await site.visit(`/runs?q=${q}&columns=${columns}&differ=1`, async visit => {
    const { page } = visit;
    await page.waitForSelector('.window .name a');
    const shown = ['Name', 'Created', 'first', 'list'];
    expect(await titles(page)).toEqual(shown);
    expect(await page.textContent('.page-head')).toContain('Differences (2 hidden)');
    await page.locator('.body .window').hover();
    await page.mouse.wheel(0, 100_000);
    await page.getByRole('link', { name: 'varied 0', exact: true }).waitFor();
    expect(await titles(page)).toEqual(shown);
    await page.goto(`${visit.base}/runs?q=${q}&columns=${columns}&differ=1&by=param:varied.same`);
    await page.waitForSelector('.window [role=row]');
    expect(await titles(page)).toEqual(shown);
  });
});
