/** The query field as a person uses it: completion, recent and saved queries. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, findings, Site } from './harness.ts';

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

const FIELD = 'input[aria-label="Filter runs by a query"]';

const options = (page: Page): Promise<string[]> =>
  page.locator('[role=listbox] [role=option] .clip:first-child').allTextContents();

async function holds(page: Page, text: string): Promise<void> {
  await eventually(`the field holds ${text}`, async () => (await page.inputValue(FIELD)) === text);
}

/** Keeps the answers of a method back until the returned function is called. */
async function held(page: Page, method: string): Promise<() => Promise<void>> {
  let release = (): void => {};
  const released = new Promise<void>(resolve => (release = resolve));
  const address = `**/*/${method}`;
  await page.route(address, async route => {
    await released;
    await route.continue();
  });
  return async () => {
    release();
    await page.unroute(address);
  };
}

test('keys wait for the list that is being read, and so does what is typed after them', async () => {
  await site.visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    const findColumns = await held(page, 'FindColumns');
    await page.keyboard.press('/');
    const asked = page.waitForRequest(/FindColumns$/);
    await page.keyboard.type('optim');
    await asked;
    await page.keyboard.press('Tab');
    await page.keyboard.type(' == ');
    expect(await page.inputValue(FIELD)).toBe('optim');
    await findColumns();
    await holds(page, 'run.hparams.optimizer == ');
    await eventually('its values are found', async () => (await options(page)).includes('"adam"'));
    const groups = await held(page, 'Groups');
    const askedAgain = page.waitForRequest(/Groups$/);
    await page.keyboard.type('"l');
    await askedAgain;
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    expect(await page.inputValue(FIELD)).toBe('run.hparams.optimizer == "l');
    await groups();
    await holds(page, 'run.hparams.optimizer == "lion"');
    await page.waitForURL(/q=run.hparams.optimizer/);
  });
});

test('without anything to complete, Tab leaves the field when the list was read', async () => {
  await site.visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    const findColumns = await held(page, 'FindColumns');
    await page.keyboard.press('/');
    const asked = page.waitForRequest(/FindColumns$/);
    await page.keyboard.type('nothingsuch');
    await asked;
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement?.tagName)).toBe('INPUT');
    await findColumns();
    await eventually('the field is left', () =>
      page.evaluate(() => document.activeElement?.tagName === 'BUTTON'),
    );
  });
});

test.each(['light', 'dark'] as const)('a query is completed by keyboard, %s', async theme => {
  await site.visit(
    '/runs',
    async visit => {
      const { page } = visit;
      await page.waitForSelector('[role=row] a');
      await page.keyboard.press('/');
      await page.keyboard.type('optim');
      await eventually('the param is found', async () =>
        (await options(page)).includes('run.hparams.optimizer'),
      );
      await page.keyboard.press('Tab');
      await holds(page, 'run.hparams.optimizer');
      await page.keyboard.type(' == ');
      await eventually('its values are found', async () => (await options(page)).includes('"adam"'));
      await visit.shot(`query-values-${theme}`);
      expect(await findings(page)).toEqual([]);
      await page.keyboard.type('"li');
      await eventually('one value is left', async () => (await options(page)).join() === '"lion"');
      await page.keyboard.press('ArrowDown');
      const active = await eventually('it is active', () =>
        page.getAttribute(FIELD, 'aria-activedescendant'),
      );
      expect(await page.locator(`[id="${active}"]`).getAttribute('aria-selected')).toBe('true');
      await page.keyboard.press('Enter');
      await holds(page, 'run.hparams.optimizer == "lion"');
      await page.waitForURL(/q=run.hparams.optimizer/);
    },
    { theme },
  );
});

test('members are completed level by level, and metrics by name and context', async () => {
  await site.visit('/runs', async visit => {
    const { page } = visit;
    await page.waitForSelector('[role=row] a');
    await page.keyboard.press('/');
    await page.keyboard.type('run.hpar');
    await eventually('the group is found', async () => (await options(page)).includes('hparams'));
    await page.keyboard.press('Tab');
    await eventually('its params are shown', async () => (await options(page)).includes('lr'));
    await holds(page, 'run.hparams.');
    await page.fill(FIELD, 'run.metrics["los');
    await eventually('contexts are shown', async () =>
      (await options(page)).includes('"loss", {"subset": "val"}]'),
    );
    await visit.shot('query-metrics');
    await page.getByRole('option', { name: '"loss", {"subset": "val"}]' }).click();
    await holds(page, 'run.metrics["loss", {"subset": "val"}]');
    await page.keyboard.type('.la');
    await eventually('members are shown', async () => (await options(page)).includes('last'));
    // Escape closes the list, and then leaves the field.
    await page.keyboard.press('Escape');
    expect(await options(page)).toEqual([]);
    await page.keyboard.press('Escape');
    expect(await page.evaluate(() => document.activeElement === document.body)).toBe(true);
  });
});

test('a list whose code arrives after Escape stays closed', async () => {
  await site.visit('/runs', async ({ page, calls }) => {
    await page.waitForSelector('[role=row] a');
    const code = /\/completer\.[^/]*\.js$/;
    let release = (): void => {};
    const released = new Promise<void>(resolve => (release = resolve));
    await page.route(code, async route => {
      await released;
      await route.continue();
    });
    const asked = page.waitForRequest(code);
    await page.keyboard.press('/');
    await page.keyboard.type('optim');
    const address = (await asked).url();
    await page.keyboard.press('Escape');
    release();
    // What waited for the code continues before this import of it.
    await page.evaluate(`import(${JSON.stringify(address)}).then(() => undefined)`);
    await page.evaluate(() => new Promise(resolve => requestAnimationFrame(resolve)));
    expect(calls.filter(call => call.endsWith('FindColumns'))).toEqual([]);
    expect(await options(page)).toEqual([]);
  });
});

test('queries are saved for everybody, and recent ones are remembered', async () => {
  const query = 'run.hparams.lr < 0.01';
  await site.visit('/runs', async visit => {
    const { page } = visit;
    await page.waitForSelector('[role=row] a');
    await page.fill(FIELD, query);
    await page.getByRole('button', { name: 'Save the query for everybody' }).click();
    await page.getByRole('button', { name: 'Remove the query from the saved ones' }).waitFor();
    await page.fill(FIELD, 'run.active');
    await page.press(FIELD, 'Enter');
    await page.fill(FIELD, '');
    await eventually('both are offered', async () => {
      const all = await options(page);
      return all.includes(query) && all.includes('run.active');
    });
    await visit.shot('query-saved');
    expect(await findings(page)).toEqual([]);
  });
  // Another browser has the saved one only.
  await site.visit('/metrics', async ({ page }) => {
    await page.focus(FIELD);
    await eventually('it is offered', async () => (await options(page)).includes(query));
    expect(await options(page)).not.toContain('run.active');
    await page.getByRole('option', { name: query }).click();
    await page.waitForURL(/q=run/);
    await page.getByRole('button', { name: 'Remove the query from the saved ones' }).click();
    await page.getByRole('button', { name: 'Save the query for everybody' }).waitFor();
  });
});

test('objects are found by their names on the page of media', async () => {
  await site.visit('/media', async ({ page }) => {
    await page.waitForSelector('canvas[data-drawn]');
    await page.focus(FIELD);
    await page.keyboard.type('images.na');
    await eventually('the name is a member', async () => (await options(page)).includes('name'));
    await page.keyboard.press('Tab');
    await page.keyboard.type(' == "rec');
    await eventually('images are named', async () => (await options(page)).join() === '"reconstructions"');
    await page.keyboard.press('Tab');
    await page.waitForURL(/q=images.name/);
    expect(await page.locator('#query-message').textContent()).toBe('');
    await page.waitForSelector('canvas[data-drawn]');
  });
});
