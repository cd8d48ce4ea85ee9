/** The query field as a person uses it: completion, recent and saved queries. */
import type { Page, Request } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, findings, held, Site } from './harness.ts';

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

const FIELD = '[aria-label="Filter runs by a query"]';

const options = (page: Page): Promise<string[]> =>
  page.locator('[role=listbox] [role=option] .clip:first-child').allTextContents();

async function holds(page: Page, text: string): Promise<void> {
  await eventually(`the field holds ${text}`, async () => (await page.inputValue(FIELD)) === text);
}

/** The next list of proposals that is no longer wanted. */
function aborted(page: Page): Promise<Request> {
  return page.waitForEvent('requestfailed', request => request.url().endsWith('/Complete'));
}

test('keys wait for the list that is being read, and so does what is typed after them', async () => {
  await site.visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    const complete = await held(page, 'SearchService/Complete');
    await page.keyboard.press('/');
    const asked = page.waitForRequest(/Complete$/);
    await page.keyboard.type('optim');
    await asked;
    await page.keyboard.press('Tab');
    await page.keyboard.type(' == ');
    expect(await page.inputValue(FIELD)).toBe('optim');
    await complete();
    await holds(page, 'run.hparams.optimizer == ');
    await eventually('its values are found', async () => (await options(page)).includes('"adam"'));
    const values = await held(page, 'SearchService/Complete');
    const askedAgain = page.waitForRequest(/Complete$/);
    await page.keyboard.type('"l');
    await askedAgain;
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    expect(await page.inputValue(FIELD)).toBe('run.hparams.optimizer == "l');
    await values();
    await holds(page, 'run.hparams.optimizer == "lion"');
    await page.waitForURL(/q=run.hparams.optimizer/);
  });
});

test('one list is read at a time, and the one in view stays until the next', async () => {
  await site.visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    await page.keyboard.press('/');
    // At once: a list for its beginning could have the param too, and another one could be on the way.
    await page.keyboard.insertText('opt');
    await eventually('the param is found', async () =>
      (await options(page)).includes('run.hparams.optimizer'),
    );
    const complete = await held(page, 'SearchService/Complete');
    const first = page.waitForRequest(/Complete$/);
    await page.keyboard.type('i');
    await first;
    const second = page.waitForRequest(/Complete$/);
    const failed = aborted(page);
    await page.keyboard.type('m');
    expect(await failed).toBe(await first);
    await second;
    await page.getByRole('option', { name: 'run.hparams.optimizer' }).click();
    await complete();
    await holds(page, 'run.hparams.optimizer');
  });
});

test('a name that is being typed is not searched before its completions are known', async () => {
  await site.visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    const complete = await held(page, 'SearchService/Complete');
    await page.keyboard.press('/');
    const explained = page.waitForResponse(/Explain$/);
    await page.keyboard.insertText('run.hparams.optim');
    await explained;
    await complete();
    await eventually(
      'the param is found',
      async () => (await options(page)).join() === 'optimizer',
    );
    expect(new URL(page.url()).searchParams.has('q')).toBe(false);
    await page.keyboard.type('izer == "adam"');
    await page.waitForURL(/q=run.hparams.optimizer/);
  });
});

test('a query is written and searched while nothing can be completed', async () => {
  await site.visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    await page.route('**/Complete', route =>
      route.fulfill({
        contentType: 'application/grpc-web+proto',
        headers: { 'grpc-status': '13' },
      }),
    );
    await page.keyboard.press('/');
    const failed = page.waitForResponse(/Complete$/);
    await page.keyboard.type('run.active');
    await failed;
    await page.keyboard.press('Enter');
    await page.waitForURL(/q=run.active/);
    await page.waitForSelector('[role=row] a');
    await page.unroute('**/Complete');
    // Characters of two units are one character of the query.
    await page.fill(FIELD, 'run.name != "🦊" and run.hparams.optim');
    await eventually('it is found', async () => (await options(page)).join() === 'optimizer');
    await page.keyboard.press('Tab');
    await holds(page, 'run.name != "🦊" and run.hparams.optimizer');
  });
});

test('without anything to complete, Tab leaves the field when the list was read', async () => {
  await site.visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    const complete = await held(page, 'SearchService/Complete');
    await page.keyboard.press('/');
    const asked = page.waitForRequest(/Complete$/);
    await page.keyboard.type('nothingsuch');
    await asked;
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement?.tagName)).toBe('TEXTAREA');
    await complete();
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
      await eventually('its values are found', async () =>
        (await options(page)).includes('"adam"'),
      );
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

test('a completion is undone like what is typed', async () => {
  await site.visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    await page.keyboard.press('/');
    await page.keyboard.type('run.active and optim');
    await eventually('the param is found', async () =>
      (await options(page)).includes('run.hparams.optimizer'),
    );
    await page.keyboard.press('Tab');
    await holds(page, 'run.active and run.hparams.optimizer');
    await page.keyboard.press('Control+z');
    await holds(page, 'run.active and optim');
    await page.keyboard.press('Control+Shift+z');
    await holds(page, 'run.active and run.hparams.optimizer');
  });
});

/** The boxes of the text, of the copy behind it and of what is underlined there; `isSame`: both scroll alike. */
function boxes(
  page: Page,
): Promise<Record<'text' | 'copy' | 'mark', DOMRect> & { isSame: boolean }> {
  return page.evaluate(selector => {
    const text = document.querySelector(selector) as HTMLElement;
    const copy = document.querySelector('.mirror') as HTMLElement;
    const measures = ({ scrollTop, scrollHeight, scrollWidth, clientWidth }: HTMLElement): string =>
      [scrollTop, scrollHeight, scrollWidth, clientWidth].join();
    const all = { text, copy, mark: copy.querySelector('u') as HTMLElement };
    const found = Object.entries(all).map(([name, one]) => [name, one.getBoundingClientRect()]);
    return { ...Object.fromEntries(found), isSame: measures(text) === measures(copy) };
  }, FIELD);
}

test.each([
  ['a long line', `${'run.hparams.lr < 1 and '.repeat(16)}run.name == = 3`],
  ['several lines', 'run.active and\nrun.name == "🦊🦊" and\n  run.name == = 3'],
  ['many lines', `${'run.active and\n'.repeat(20)}run.name == = 3`],
])('an error is underlined where it is, in %s', async (name, query) => {
  await site.visit('/runs', async visit => {
    const { page } = visit;
    await page.waitForSelector('[role=row] a');
    await page.keyboard.press('/');
    const before = await page.locator('.window [role=row]').first().boundingBox();
    await page.keyboard.insertText(query);
    await page.waitForSelector('[aria-invalid=true]');
    expect(await page.locator('.mirror').textContent()).toBe(`${query}\u200b`);
    expect(await page.locator('.mirror u').textContent()).toBe('=');
    const { text, copy, mark } = await eventually('the copy is where the text is', async () => {
      const found = await boxes(page);
      return found.isSame ? found : undefined;
    });
    expect(copy).toEqual(text);
    expect(mark.top).toBeGreaterThanOrEqual(text.top);
    expect(mark.bottom).toBeLessThanOrEqual(text.bottom);
    expect(mark.right).toBeLessThanOrEqual(text.right);
    expect(await findings(page)).toEqual([]);
    expect((await page.locator('.window [role=row]').first().boundingBox())?.y).toBe(before?.y);
    await visit.shot(`query-${name.replaceAll(' ', '-')}`);
    // Without the focus it covers nothing, and with it again, it is as before.
    await page.keyboard.press('Escape');
    await page.keyboard.press('Escape');
    expect((await page.locator('.query').boundingBox())?.height).toBe(30);
    await visit.shot(`query-left-${name.replaceAll(' ', '-')}`);
    await page.keyboard.press('/');
    await eventually('the copy is there again', async () => (await boxes(page)).isSame);
  });
});

test('lines of a query are kept, and the arrows move between them', async () => {
  await site.visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    await page.keyboard.press('/');
    await page.keyboard.type('run.active and');
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('run.hparams.lr < 1 ');
    await page.keyboard.press('Escape');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.type(' not');
    await page.keyboard.press('Enter');
    const query = 'run.active and not\nrun.hparams.lr < 1 ';
    await page.waitForURL(url => url.searchParams.get('q') === query);
    await page.reload();
    await holds(page, query);
    expect(await page.locator('.query [role=status]').textContent()).toBe('');
  });
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

test('a list that is read while Escape is pressed stays closed', async () => {
  await site.visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    const complete = await held(page, 'SearchService/Complete');
    const asked = page.waitForRequest(/Complete$/);
    await page.keyboard.press('/');
    await asked;
    const failed = aborted(page);
    await page.keyboard.press('Escape');
    await failed;
    await complete();
    expect(await options(page)).toEqual([]);
    expect(await page.evaluate(() => document.activeElement?.tagName)).toBe('TEXTAREA');
  });
});

test('a filter is built by clicks, and searched', async () => {
  await site.visit('/metrics', async visit => {
    const { page } = visit;
    const field = page.getByLabel('Filter runs by a query');
    await field.click();
    for (const word of ['run', 'hparams', 'optimizer', '==', '"adam"', 'and', 'run', 'active'])
      await page
        .locator('[role=option]', { has: page.locator(`span:text-is('${word}')`) })
        .first()
        .click();
    const query = 'run.hparams.optimizer == "adam" and run.active';
    await holds(page, query);
    await page.waitForURL(url => url.searchParams.get('q') === query);
    // While typing, options appear only where something is missing, so Tab leaves the field.
    await page.keyboard.press('Escape');
    const answer = page.waitForResponse(/Complete$/);
    await page.keyboard.type(' ');
    await answer;
    await visit.quiet();
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
    await eventually(
      'images are named',
      async () => (await options(page)).join() === '"reconstructions"',
    );
    await page.keyboard.press('Tab');
    await page.waitForURL(url => url.searchParams.get('q') === 'images.name == "reconstructions"');
    expect(await page.locator('.query [role=status]').textContent()).toBe('');
    await page.waitForSelector('canvas[data-drawn]');
  });
});

test('a query with a name that no run has says so, also when it was typed', async () => {
  const text = '"best" in run.tgs';
  const warned = '.below p:has-text("no run has the param run.tgs")';
  await site.visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    await page.fill(FIELD, text);
    await page.keyboard.press('Escape');
    await page.waitForSelector(warned);
  });
  for (const path of ['metrics', 'params', 'compare']) {
    await site.visit(`/${path}?q=${encodeURIComponent(text)}`, async ({ page }) => {
      // Without the focus it covers nothing.
      await page.waitForSelector('.query .warn[title*="no run has the param run.tgs"]');
      expect(await page.locator('.below').evaluate(one => getComputedStyle(one).clipPath)).not.toBe(
        'none',
      );
      await page.focus(FIELD);
      await page.keyboard.press('Escape');
      await page.waitForSelector(warned);
      expect(await page.locator('.below').evaluate(one => getComputedStyle(one).clipPath)).toBe(
        'none',
      );
    });
  }
});

test('a name that has only begun is not searched before the field is left', async () => {
  await site.visit('/runs', async visit => {
    const { page } = visit;
    await page.waitForSelector('[role=row] a');
    await page.focus(FIELD);
    await page.keyboard.type('run.hpar');
    await page.waitForSelector('[role=option]:has-text("hparams")');
    await page.waitForSelector('.query small');
    await visit.quiet();
    expect(new URL(page.url()).search).toBe('');
    expect(await page.locator('.window [role=row]').count()).toBeGreaterThan(10);
    await page.keyboard.type('ams.lr < 1');
    await page.waitForURL(/q=run.hparams.lr/);
    await page.fill(FIELD, 'run.hpar');
    await page.locator(FIELD).blur();
    await page.waitForURL(/q=run.hpar$/);
  });
});

test('the cost of a query is next to it, with the plan', async () => {
  const everything = encodeURIComponent('"sweep" in run.name');
  await site.visit(`/runs?q=${everything}`, async visit => {
    const { page } = visit;
    const cost = page.locator('.query small');
    const says = (text: string): Promise<boolean> =>
      eventually(text, async () => (await cost.allTextContents()).join() === text);
    await says('checks every run');
    // Enter does not wait for the cost.
    await page.fill(FIELD, `run.hash == "${site.runs.hashes[5]}"`);
    await page.keyboard.press('Enter');
    await says('checks 1 run');
    expect((await cost.getAttribute('title'))?.trim()).not.toBe('');
    await visit.shot('query-cost');
    expect(await findings(page)).toEqual([]);
    await page.fill(FIELD, '"sweep" in');
    await eventually('an error has no cost', async () => (await cost.count()) === 0);
    // The query of the address is explained only: going back leads to it by one step.
    await page.fill(FIELD, `run.hash == "${site.runs.hashes[5]}"`);
    await says('checks 1 run');
    await page.goBack();
    await says('checks every run');
  });
});

test('words find runs by their names, descriptions, tags, experiments and hashes', async () => {
  const { hashes } = site.runs;
  const cases = [
    ['VIT trial', 15],
    ['needs', 9],
    ['"small / trial"', 15],
    ['VIT trial and not run.active', 15],
    ['distilled', 22],
    ['"kind of thing"', 1],
    [hashes[3]!.slice(2, 16), 1],
  ] as const;
  await site.visit('/runs', async visit => {
    const { page } = visit;
    const field = page.getByLabel('Filter runs by a query');
    for (const [words, count] of cases) {
      await field.fill(words);
      await field.press('Enter');
      await page
        .locator('header [role=status]', { hasText: new RegExp(`^\\s*${count}\\s*$`) })
        .waitFor();
      expect(new URL(page.url()).searchParams.get('q')).toBe(words);
    }
    await visit.shot('query-words');
    expect(await findings(page)).toEqual([]);
    await page.getByRole('link', { name: 'Metrics', exact: true }).click();
    await page.getByRole('heading', { name: 'Metrics' }).waitFor();
    expect(await page.getByLabel('Filter runs by a query').inputValue()).toBe(
      hashes[3]!.slice(2, 16),
    );
  });
});

test.each(['light', 'dark'] as const)(
  'mistyped names are corrected by a click, %s',
  async theme => {
    const cases = [
      ['loss < 1', 'run.metrics["loss"].last < 1'],
      ['run.hparam.lr < 0.001', 'run.hparams.lr < 0.001'],
    ] as const;
    await site.visit(
      '/runs',
      async visit => {
        const { page } = visit;
        await page.waitForSelector('[role=row] a');
        for (const [written, meant] of cases) {
          await page.fill(FIELD, written);
          const repair = page.getByRole('button', { name: meant });
          await repair.waitFor();
          await visit.shot(`query-repair-${theme}`);
          expect(await findings(page)).toEqual([]);
          await repair.click();
          await page.waitForURL(url => url.searchParams.get('q') === meant);
          await holds(page, meant);
        }
      },
      { theme },
    );
  },
);

test.each(['light', 'dark'] as const)(
  'a condition is chosen instead of written, %s',
  async theme => {
    await site.visit(
      '/runs?q=vit',
      async visit => {
        const { page } = visit;
        await page.waitForSelector('[role=row] a');
        // By keyboard.
        await page.keyboard.press('f');
        const dialog = page.getByRole('dialog', { name: 'Add a condition' });
        // The code of the dialog is loaded now. Until it is there, the page takes the keys.
        await dialog.locator('input:focus').waitFor();
        await page.keyboard.type('hparams.lr');
        await dialog.locator('figure rect').first().waitFor();
        await dialog.getByRole('combobox', { name: 'Operator' }).selectOption('<');
        await dialog.getByRole('textbox', { name: 'Value' }).fill('0.01');
        await dialog.getByText(/runs? match/).waitFor();
        await visit.shot(`query-builder-${theme}`);
        expect(await findings(page)).toEqual([]);
        await page.keyboard.press('Enter');
        await page.waitForURL(url => url.searchParams.get('q') === 'vit and run.hparams.lr < 0.01');
        // By mouse, with the values that runs have.
        await page.getByRole('button', { name: 'Add a condition to the query' }).click();
        await dialog
          .getByRole('combobox', { name: 'Param, metric or property' })
          .fill('hparams.optimizer');
        await dialog.getByRole('button', { name: /^adam/ }).click();
        await dialog.getByText('run.hparams.optimizer == "adam"').waitFor();
        await visit.shot(`query-builder-values-${theme}`);
        expect(await findings(page)).toEqual([]);
        await dialog.getByRole('button', { name: 'Add', exact: true }).click();
        await page.waitForURL(url =>
          (url.searchParams.get('q') ?? '').endsWith('run.hparams.optimizer == "adam"'),
        );
      },
      { theme },
    );
  },
);
