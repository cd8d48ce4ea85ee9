/** Reports, as a person writes and shares them. */
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { ReportService } from '../src/gen/matyan/reports/v1/reports_pb.ts';
import { eventually, findings, Site, tabTo } from './harness.ts';

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

test.each(['light', 'dark'] as const)(
  'a report is written, and shows live charts, %s',
  async theme => {
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
        const saved = page.waitForResponse(response =>
          response.url().endsWith('ReportService/Update'),
        );
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
        await page
          .getByRole('button', { name: 'Name of the report: Findings of a week' })
          .waitFor();
        await page.getByRole('link', { name: 'Back to the reports' }).click();
        await page.getByRole('link', { name: 'Findings of a week' }).first().waitFor();
      },
      { theme },
    );
  },
);

test('a report names mistakes, inserts panels by a slash, and knows tasks and formulas', async () => {
  await site.visit('/reports', async visit => {
    const { page } = visit;
    await page.getByRole('button', { name: 'New report' }).click();
    const text = page.getByRole('textbox', { name: 'Text of the report, as Markdown' });
    await text.fill(
      'Let $x_i^2$ be.\n\n- [ ] look at it\n- [x] train\n\n```chart\nmetric: loss\nsmooth: abc\nby: hparams.optimizer\n```\n',
    );
    const mistakes = page.getByRole('alert');
    await mistakes.getByText('“smooth” cannot be “abc”. It is a number.').waitFor();
    await mistakes.getByText('“param:hparams.optimizer” is a param.').waitFor();
    await page.locator('article math').waitFor();
    expect(await findings(page)).toEqual([]);
    // The form of the panel replaces its lines, and nothing else.
    await page.getByRole('button', { name: 'Actions for panel loss' }).click();
    await page.getByRole('menuitem', { name: 'Edit' }).click();
    const dialog = page.getByRole('dialog', { name: 'Panel' });
    await dialog.getByRole('checkbox', { name: 'Log y' }).check();
    expect(await findings(page)).toEqual([]);
    await dialog.getByRole('button', { name: 'Save', exact: true }).click();
    await eventually('the text has the panel', async () =>
      (await text.inputValue()).endsWith('```chart\nmetric: loss\nlogy: yes\n```\n'),
    );
    expect(await mistakes.count()).toBe(0);
    // A slash in an empty line, without a mouse.
    await text.focus();
    await page.keyboard.press('Control+End');
    await page.keyboard.type('/bar');
    await page.getByRole('option', { name: 'Bar chart' }).waitFor();
    await page.keyboard.press('Enter');
    await dialog.getByRole('combobox', { name: 'Metric' }).fill('accuracy');
    await dialog.getByRole('button', { name: 'Insert' }).click();
    await eventually('it is inserted', async () =>
      (await text.inputValue()).endsWith('```bar\nmetric: accuracy\n```\n'),
    );
    await page.getByRole('region', { name: 'Bars of accuracy' }).locator('li').first().waitFor();
    await page.keyboard.press('Control+s');
    await page.getByText('The report is saved.').first().waitFor();
    // A reader does a task with a click, which is saved.
    await page.getByRole('button', { name: 'Read', exact: true }).click();
    await saving(page, () => page.getByRole('checkbox', { name: 'look at it' }).check());
    await page.reload();
    await page.getByRole('checkbox', { name: 'look at it' }).waitFor();
    expect(await page.getByRole('checkbox', { name: 'look at it' }).isChecked()).toBe(true);
    expect(await page.getByRole('checkbox', { name: 'train' }).isChecked()).toBe(true);
    // The text before each save is kept, and can be continued.
    await page.getByRole('button', { name: 'Versions' }).click();
    const versions = page.getByRole('dialog', { name: 'Earlier versions' });
    await versions.getByText('look at it').first().waitFor();
    expect(await versions.getByRole('button', { name: /^until/ }).count()).toBe(2);
    expect(await findings(page)).toEqual([]);
    await versions
      .getByRole('button', { name: /^until/ })
      .last()
      .click();
    await versions.getByText('The **loss** of the newest runs:').waitFor();
    await versions.getByRole('button', { name: 'Edit this version' }).click();
    await eventually('it is edited', async () => (await text.inputValue()).includes('## Findings'));
    await saving(page, () => page.keyboard.press('Control+s'));
  });
});

test('a report is created, found in the list and opened by keyboard', async () => {
  await site.visit('/reports', async ({ page }) => {
    await page.getByRole('button', { name: 'New report' }).waitFor();
    await tabTo(page, '.page-head button.primary');
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/reports\/.+/);
    // The name of a new one is edited first.
    await page.waitForFunction(() => document.activeElement?.matches('h1 input'));
    await page.keyboard.type('Written without a mouse');
    await page.keyboard.press('Enter');
    await page
      .getByRole('button', { name: /^Name of the report: Written without a mouse/ })
      .waitFor();
    await tabTo(page, '[aria-label="Back to the reports"]');
    await page.keyboard.press('Enter');
    const link = page.getByRole('link', { name: 'Written without a mouse' });
    await link.waitFor();
    await tabTo(page, '[aria-label="Search by name"]');
    await page.keyboard.type('without a mouse');
    await eventually(
      'it is the only one',
      async () => (await page.locator('[role=row] a').count()) === 1,
    );
    await tabTo(page, '[role=row] a');
    await page.keyboard.press('Enter');
    await page
      .getByRole('button', { name: /^Name of the report: Written without a mouse/ })
      .waitFor();
  });
});

test('neither a link nor another author loses the text of a report', async () => {
  await site.visit('/reports', async ({ page, base }) => {
    await page.getByRole('button', { name: 'New report' }).click();
    const text = page.getByRole('textbox', { name: 'Text of the report, as Markdown' });
    await text.fill('a draft');
    const questions: string[] = [];
    page.on('dialog', dialog => {
      questions.push(dialog.message());
      void (questions.length > 2 ? dialog.accept() : dialog.dismiss());
    });
    const path = new URL(page.url()).pathname;
    await page.getByRole('link', { name: 'Back to the reports' }).click();
    await page.goBack();
    await eventually('both are asked about', () => questions.length === 2);
    // The path is put back after the answer.
    await eventually('the report stays open', () => new URL(page.url()).pathname === path);
    expect(await text.inputValue()).toBe('a draft');
    const save = async (): Promise<void> => {
      await page.keyboard.press('Control+s');
      await page.getByText('The report is saved.').first().waitFor();
    };
    await save();
    const reports = createClient(ReportService, createGrpcWebTransport({ baseUrl: base }));
    const write = (code: string): Promise<unknown> =>
      reports.update({ id: path.split('/').at(-1)!, code });
    await write('theirs');
    await text.fill('mine');
    await page.keyboard.press('Control+s');
    await page.getByText('Somebody else has saved this report meanwhile.').waitFor();
    expect(await findings(page)).toEqual([]);
    await page.getByRole('button', { name: 'Discard mine' }).click();
    await eventually('theirs is shown', async () => (await text.inputValue()) === 'theirs');
    await write('theirs, again');
    await text.fill('mine, again');
    await page.keyboard.press('Control+s');
    await page.getByRole('button', { name: 'Replace it by mine' }).click();
    await page.getByRole('button', { name: 'Save', exact: true, disabled: true }).waitFor();
    await page.reload();
    await eventually('mine is saved', async () => (await text.inputValue()) === 'mine, again');
    expect(questions.length).toBe(2);
    await text.fill('not wanted');
    await page.getByRole('link', { name: 'Back to the reports' }).click();
    await page.getByRole('heading', { name: 'Reports' }).waitFor();
    expect(questions.length).toBe(3);
  });
});

/** Waits until a change is saved. The message about an earlier one may still be shown. */
async function saving(page: Page, change: () => Promise<void>): Promise<void> {
  const message = page.getByText('The report is saved.');
  await eventually('earlier messages are gone', async () => (await message.count()) === 0);
  await change();
  await message.first().waitFor();
}
