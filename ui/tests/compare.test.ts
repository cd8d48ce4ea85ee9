/** Runs that are selected and compared. */
import { afterAll, beforeAll, expect, test } from 'vitest';

import { SeriesService } from '../src/gen/matyan/series/v1/series_pb.ts';
import { eventually, findings, allDrawn, Site, type Visit, type VisitOptions } from './harness.ts';

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});

afterAll(() => site?.close());

function visit<T>(
  path: string,
  use: (visit: Visit) => Promise<T>,
  options?: VisitOptions,
): Promise<T> {
  return site.visit(path, use, options);
}

/** Numbers of the series that were read for charts. */
function seriesRead(visit: Visit): Set<string> {
  const runs = visit.requests(SeriesService.method.buckets).flatMap(request => request.runs);
  return new Set(runs.flatMap(({ runId, numbers }) => numbers.map(number => `${number}/${runId}`)));
}

test('runs are selected by range, and compared', async () => {
  await visit('/runs?q=run.hparams.batch_size%20and%20not%20run.active', async visit => {
    const { page } = visit;
    const boxes = page.locator('[role=row] input[type=checkbox]');
    await boxes.nth(2).click();
    await boxes.nth(5).click({ modifiers: ['Shift'] });
    await boxes.nth(4).click();
    await page.click('button:has-text("Compare 3")');
    await page.waitForURL(/compare\?.*\bruns=/);
    await page.waitForSelector('[role=rowheader]:has-text("hparams.lr")');
    const best = page.locator('.row', {
      has: page.getByRole('button', { name: 'loss val', exact: true }),
    });
    const losses = (await best.locator('[role=cell]').allTextContents()).map(text =>
      Number.parseFloat(text),
    );
    expect(Number.parseFloat((await best.locator('.best').textContent()) ?? '')).toBe(
      Math.min(...losses),
    );
    expect(await page.locator('.head a').count()).toBe(3);
    await visit.shot('compare-light');
    expect(await findings(page)).toEqual([]);
    const background = (): Promise<string> =>
      page.evaluate(() => getComputedStyle(document.body.querySelector('nav')!).backgroundColor);
    const light = await background();
    await page.keyboard.press('t');
    expect(await background()).not.toBe(light);
    await page.click('[role=tab]:has-text("Charts")');
    await allDrawn(page);
    await visit.shot('compare-charts-dark');
    expect(await findings(page)).toEqual([]);
    await page.goBack();
    await page.waitForSelector('[role=rowheader]');
    await page.fill('input[aria-label="Search names and values"]', 'DROP');
    const titles = (): Promise<string[]> => page.locator('[role=rowheader]').allTextContents();
    await eventually('only those rows are left', async () =>
      (await titles()).every(title => title.trim() === 'hparams.model.dropout'),
    );
  });
});

test('the best of many runs is brought into view by a click, and by keyboard', async () => {
  await visit('/compare?q=', async visit => {
    const { page } = visit;
    await page.waitForSelector('[role=rowheader]');
    const names = (): Promise<string[]> => page.locator('.head a').allTextContents();
    const before = await names();
    expect(before.length).toBe(50);
    const title = page.getByRole('button', { name: 'loss val', exact: true });
    const scroller = page.locator('.body .scroller');
    await scroller.evaluate(element => element.scrollTo(3_000, 0));
    const row = page.locator('.row', { has: title });
    // The title stays in view.
    expect((await title.boundingBox())!.x).toBeGreaterThan(0);
    await title.click();
    await page.waitForURL(/sort=metric/);
    expect(await scroller.evaluate(element => element.scrollLeft)).toBe(0);
    const values = (await row.locator('[role=cell]').allTextContents()).map(text =>
      Number.parseFloat(text),
    );
    const known = values.filter(value => !Number.isNaN(value));
    expect(known.length).toBeGreaterThan(10);
    expect(known).toEqual([...known].sort((a, b) => a - b));
    expect(values.slice(0, known.length)).toEqual(known);
    expect(await row.locator('[role=cell]').first().getAttribute('class')).toContain('best');
    expect(await title.getAttribute('aria-pressed')).toBe('true');
    expect((await names()).toSorted()).toEqual(before.toSorted());
    await visit.shot('compare-sorted-light');
    expect(await findings(page)).toEqual([]);
    await title.press('Enter');
    await eventually(
      'they are in the order of the query',
      async () => (await names()).join() === before.join(),
    );
    await page.goBack();
    await page.waitForURL(/sort=metric/);
  });
});

test('a comparison reads the charts in view only, and none next to its values', async () => {
  await visit('/compare?q=', async visit => {
    const { page } = visit;
    const read = (): number => seriesRead(visit).size;
    await page.waitForSelector('[role=rowheader]');
    expect(read()).toBe(0);
    await page.click('[role=tab]:has-text("Charts")');
    await allDrawn(page);
    const count = await page.textContent('[role=tab]:has-text("Charts") .weak');
    expect(Number(count?.replace(/\D/g, ''))).toBeGreaterThan(1_000);
    await page.getByRole('button', { name: 'Sections of charts' }).click();
    await page.getByRole('menuitem', { name: 'Open all' }).click();
    await allDrawn(page);
    await visit.quiet();
    // Fewer than ten charts of 50 runs.
    const before = read();
    expect(before).toBeLessThan(500);
    // One run only has the metrics further below.
    await page.locator('.body .scroller').evaluate(element => element.scrollTo(0, 60_000));
    await eventually('those further below are read', () => read() > before);
    expect(read()).toBeLessThan(before + 60);
  });
});
