/** The overview of a run, which explains it. */
import { afterAll, beforeAll, expect, test } from 'vitest';

import { findings, Site } from './harness.ts';

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site?.close());

test.each(['light', 'dark'] as const)(
  'a run has its place, its params and its origin, %s',
  async theme => {
    await site.visit(
      `/runs/${site.runs.hashes[5]}?tab=overview`,
      async visit => {
        const { page } = visit;
        const place = page.getByRole('link', { name: /^\d+(st|nd|rd|th) of \d+$/ });
        await place.waitFor();
        const [own = NaN, all = NaN] = ((await place.textContent())?.match(/\d+/g) ?? []).map(
          Number,
        );
        expect(own).toBeLessThanOrEqual(all);
        const params = page.locator('section[aria-labelledby=main-params]');
        expect(await params.locator('td:first-child').allTextContents()).toContain('lr');
        await visit.shot(`overview-${theme}`);
        expect(await findings(page)).toEqual([]);
        // The table has the run at this place.
        await place.click();
        const name = page.locator(`.table .row a[href*="/runs/${site.runs.hashes[5]}"]`);
        await name.waitFor();
        const row = name.locator('xpath=ancestor::*[@role="row"]');
        expect(Number(await row.getAttribute('aria-rowindex'))).toBe(own + 1);
      },
      { theme },
    );
    await site.visit(`/runs/${site.runs.studio}?tab=overview`, async ({ page }) => {
      await page.getByText('python3 train.py --lr 0.01').waitFor();
      await page.getByText('3cca543', { exact: true }).waitFor();
    });
  },
);
