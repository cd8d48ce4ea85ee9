/** Reports, as a person writes and shares them. */
import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, findings, Site } from './harness.ts';

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

test.each(['light', 'dark'] as const)('a report is written, and shows live charts, %s', async theme => {
  await site.visit(
    '/reports',
    async visit => {
      const { page } = visit;
      await page.getByRole('button', { name: 'New report' }).click();
      const text = page.getByRole('textbox', { name: 'Text of the report, as Markdown' });
      await text.waitFor();
      await text.fill(
        '## Batch sizes\n\nSee **all** of [them](/runs), or <script>alert(1)</script>.\n\n' +
          '| size | runs |\n|---|---|\n| 16 | 12 |\n\n- small\n- large\n\n> [run](javascript:alert(1))\n\n' +
          '```chart\nmetric: accuracy\nby: param:hparams.optimizer\n```\n\n```runs\nquery: "best" in run.tags\n```\n',
      );
      await page.waitForSelector('article table a');
      await eventually('the chart is drawn', async () =>
        page.locator('article canvas.base').evaluate(one => Number(one.dataset.series ?? 0) > 0),
      );
      expect(await page.locator('article').textContent()).toContain('<script>alert(1)</script>');
      expect(await page.locator('article a[href^=javascript]').count()).toBe(0);
      await visit.shot(`report-edit-${theme}`);
      expect(await findings(page)).toEqual([]);
      const saved = page.waitForResponse(response => response.url().endsWith('ReportService/Update'));
      await page.keyboard.press('Control+s');
      await saved;
      await page.getByRole('button', { name: 'Read', exact: true }).click();
      await page.reload();
      await page.getByRole('heading', { name: 'Batch sizes' }).waitFor();
      expect(await text.count()).toBe(0);
      await page.waitForSelector('article table a');
      await visit.shot(`report-${theme}`);
      expect(await findings(page)).toEqual([]);
      // The name is changed in place.
      await page.getByRole('button', { name: /Name of the report/ }).click();
      await page.keyboard.type('Findings of a week');
      await page.keyboard.press('Enter');
      await page.getByRole('link', { name: 'Back to the reports' }).click();
      await page.getByRole('link', { name: 'Findings of a week' }).first().waitFor();
    },
    { theme },
  );
});
