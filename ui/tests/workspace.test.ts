/** The workspace: the query, hidden runs, colors, grouping and selection are the same on all pages. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { colorsOf, eventually, findings, held, Site } from './harness.ts';

const QUERY = 'run.name.startswith("vit-small")';
const COUNT = 15;
const SWEEP = `q=${encodeURIComponent(QUERY)}`;
const CHART = 'section[aria-label=loss] canvas.base';

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site?.close());

async function follow(page: Page, title: string): Promise<void> {
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: title }).click();
  await page.getByRole('heading', { name: title, level: 1 }).waitFor();
}

const status = (page: Page, text: RegExp): Promise<void> =>
  page.locator('header [role=status]', { hasText: text }).first().waitFor();

test('a query goes along to every page, and its address has it', async () => {
  await site.visit(`/runs?${SWEEP}`, async ({ page }) => {
    await status(page, new RegExp(`^\\s*${COUNT}\\s*$`));
    for (const title of ['Metrics', 'Params', 'Compare', 'Runs']) {
      await follow(page, title);
      await status(page, new RegExp(`${COUNT}`));
      expect(new URL(page.url()).searchParams.get('q')).toBe(QUERY);
    }
    for (const title of ['Media', 'Tags', 'Home', 'Metrics']) {
      if (title === 'Home') {
        await page
          .getByRole('navigation', { name: 'Pages' })
          .getByRole('link', { name: title, exact: true })
          .click();
        await page.getByRole('heading', { name: 'Newest runs' }).waitFor();
      } else await follow(page, title);
      expect(new URL(page.url()).searchParams.get('q')).toBe(QUERY);
    }
  });
});

test('eyes hide runs on all pages, and every axis adapts', async () => {
  await site.visit(`/metrics?${SWEEP}&value=loss+&order=highest&m=/^loss$/`, async visit => {
    const { page } = visit;
    const list = page.getByRole('table', { name: 'Runs of the charts' });
    await list.locator('[role=row]').nth(1).waitFor();
    await page.locator(CHART).waitFor();
    const all = Number(await page.locator(CHART).getAttribute('data-series'));
    const hidden: string[] = [];
    for (let row = 0; row < 3; row++) {
      const eye = list.getByRole('button', { name: /in charts$/ }).nth(row);
      hidden.push((await eye.getAttribute('aria-label')) ?? '');
      await eye.click();
    }
    await page.getByRole('button', { name: '3 hidden' }).waitFor();
    await eventually(
      'fewer lines',
      async () => Number(await page.locator(CHART).getAttribute('data-series')) < all,
    );
    expect(new URL(page.url()).searchParams.get('hide')?.split(',').length).toBe(3);
    expect(await findings(page)).toEqual([]);
    await visit.shot('workspace-hidden');
    await follow(page, 'Params');
    await status(page, new RegExp(`${COUNT - 3} of ${COUNT} shown`));
    await follow(page, 'Runs');
    for (const label of hidden)
      await page.locator(`[role=row] button[aria-label=${JSON.stringify(label)}]`).waitFor();
    expect(await page.locator('[role=row] button[aria-pressed=false]').count()).toBe(3);
    // The chosen row is hidden and shown by a key.
    await page.keyboard.press('j');
    await page.keyboard.press('v');
    await page.getByRole('button', { name: /^[24] hidden$/ }).click();
    await eventually('all are shown', async () => !page.url().includes('hide='));
  });
});

test('the list of runs finds, sorts, dims other lines, and shows a run alone', async () => {
  await site.visit(`/metrics?${SWEEP}&m=/^loss$/`, async visit => {
    const { page } = visit;
    const list = page.getByRole('table', { name: 'Runs of the charts' });
    const names = list.locator('[role=rowheader] a');
    await names.first().waitFor();
    await page.getByRole('combobox', { name: 'Sort runs' }).selectOption('lowest');
    const values = await eventually('sorted values', async () => {
      const texts = await list.locator('[role=cell].number').allTextContents();
      const numbers = texts.filter(text => text.trim()).map(Number);
      return numbers.length > 1 && numbers.every((one, at) => one >= (numbers[at - 1] ?? -1))
        ? numbers
        : undefined;
    });
    expect(values.length).toBeGreaterThan(3);
    await list.locator('[role=row]').nth(2).hover();
    await page.locator('section[aria-label=loss] canvas[data-dimmed=true]').waitFor();
    await visit.shot('workspace-dimmed');
    await page.getByRole('heading', { name: 'Metrics' }).hover();
    await page.locator('section[aria-label=loss] canvas[data-dimmed=false]').waitFor();
    const first = await names.first().textContent();
    await list.locator('[role=row] [role=cell]').first().dblclick();
    await page.getByRole('button', { name: 'Only 1 shown' }).waitFor();
    expect(await list.locator('button[aria-pressed=true]').count()).toBe(1);
    await list.locator('[role=row] [role=cell]').first().dblclick();
    await page.getByRole('button', { name: 'Only 1 shown' }).waitFor({ state: 'detached' });
    await page.getByRole('searchbox', { name: 'Search runs' }).fill(first ?? '');
    await eventually('one run', async () => (await names.count()) === 1);
  });
});

test('ten runs have ten colors, the same on all pages, and a chosen color stays', async () => {
  const ids = site.runs.hashes.filter((_, number) => number % 4 === 0).slice(0, 10);
  await site.visit(`/metrics?${SWEEP}&only=${ids.join()}&m=/^loss$/`, async visit => {
    const { page } = visit;
    await page.locator(CHART).waitFor();
    const pick = async (): Promise<Record<string, string>> => {
      const all = await colorsOf(page);
      return Object.fromEntries(ids.flatMap(id => (all[id] ? [[id, all[id]]] : [])));
    };
    const first = await eventually('ten runs', async () => {
      const found = await pick();
      return Object.keys(found).length === 10 ? found : undefined;
    });
    expect(new Set(Object.values(first)).size).toBe(10);
    const [id = ''] = ids;
    const eye = (await page
      .getByRole('button', { name: /in charts$/ })
      .first()
      .boundingBox())!;
    expect(Math.min(eye.width, eye.height)).toBeGreaterThanOrEqual(24);
    // Menus have no items before they are open.
    expect(await page.locator('[role=row] [role=menuitem]').count()).toBe(0);
    const name = await page.locator(`[data-run="${id}"] a`).textContent();
    await page.getByRole('button', { name: `Color of ${name}` }).click();
    await visit.shot('workspace-colors');
    await page.getByRole('menuitem', { name: 'Pink' }).click();
    const chosen = await eventually('another color', async () => {
      const found = await pick();
      return found[id] !== first[id] ? found : undefined;
    });
    expect(new Set(Object.values(chosen)).size).toBe(10);
    await page.goto(`${visit.base}/compare?runs=${ids.join()}&colors=${id}%3D11`);
    await page.locator('[role=columnheader] a').first().waitFor();
    const compared = await eventually('ten compared runs', async () => {
      const found = await pick();
      return Object.keys(found).length === 10 ? found : undefined;
    });
    for (const [other, color] of Object.entries(compared)) expect(color).toBe(chosen[other]);
    await page.goto(`${visit.base}/runs/${id}?colors=${id}%3D11`);
    const swatch = page.locator('header svg rect[style]').first();
    expect(await swatch.evaluate(one => getComputedStyle(one).fill)).toBe(chosen[id]);
  });
});

test('a selection and a grouping go along to the charts and the comparison', async () => {
  const by = 'by=param%3Ahparams.optimizer';
  await site.visit(`/runs?${SWEEP}`, async ({ page }) => {
    const boxes = page.getByRole('row').getByRole('checkbox');
    await boxes.nth(3).waitFor();
    for (const at of [1, 2, 3]) await boxes.nth(at).click();
    await page.getByText('3 selected').waitFor();
    expect(new URL(page.url()).searchParams.has('runs')).toBe(false);
    await follow(page, 'Compare');
    await status(page, /^\s*3\s+runs/);
    // The newest runs are compared again, and the boxes stay.
    await page.getByRole('button', { name: 'Clear' }).click();
    await status(page, new RegExp(`^\\s*${COUNT}\\s+runs`));
    await follow(page, 'Runs');
    await page.getByText('3 selected').waitFor();
    expect(new URL(page.url()).searchParams.has('runs')).toBe(false);
    await page.reload();
    await page.getByText('3 selected').waitFor();
  });
  await site.visit(`/runs?${by}`, async ({ page }) => {
    await follow(page, 'Metrics');
    await page.getByRole('combobox', { name: 'Color by' }).waitFor();
    expect(await page.getByRole('combobox', { name: 'Color by' }).inputValue()).toBe(
      'param:hparams.optimizer',
    );
  });
});

test('a comparison shows the chosen runs only, and no more than can be compared', async () => {
  const [one = ''] = site.runs.hashes;
  await site.visit(`/compare?${SWEEP}&runs=${one}`, async ({ page }) => {
    await page.getByRole('heading', { name: 'Choose runs to compare' }).waitFor();
    await status(page, /^\s*1\s+run\s*$/);
  });
  const many = Array.from({ length: 150 }, (_, at) => site.runs.hashes[at] ?? `unknown${at}`);
  await site.visit(`/compare?runs=${many.join()}`, async ({ page }) => {
    await page.getByText('At most 100 runs are compared.').waitFor();
    await status(page, /of\s+150\s+chosen runs/);
  });
});

test('the box for all runs is not ticked for as many runs of another query', async () => {
  await site.visit(`/runs?${SWEEP}`, async visit => {
    const { page } = visit;
    const box = page.getByRole('checkbox', { name: 'Select all runs' });
    const ofRows = page.locator('.window [role=row] input[type=checkbox]');
    await ofRows.first().waitFor();
    const name = await page.locator('.window .name a').last().textContent();
    await ofRows.first().click();
    await page.goto(`${visit.base}/runs?q=${encodeURIComponent(`run.name == "${name}"`)}`);
    await ofRows.first().waitFor();
    await page.getByText('1 selected').waitFor();
    expect([await ofRows.count(), await ofRows.first().isChecked()]).toEqual([1, false]);
    expect(await box.isChecked()).toBe(false);
    await box.click();
    await eventually('the run is selected', () => ofRows.first().isChecked());
    expect(await box.isChecked()).toBe(true);
  });
});

test('what was asked for on one page changes no other page', async () => {
  await site.visit(`/runs?${SWEEP}`, async ({ page }) => {
    await page.locator('.window .name a').first().waitFor();
    const release = await held(page, 'SearchService/Runs');
    await page.getByRole('checkbox', { name: 'Select all runs' }).click();
    const path = `/metrics?${SWEEP}&m=loss`;
    await page.evaluate(path => {
      history.pushState(null, '', path);
      dispatchEvent(new PopStateEvent('popstate'));
    }, path);
    const answered = page.waitForResponse(/SearchService\/Runs$/);
    await release();
    await answered;
    await page.locator(CHART).waitFor();
    expect(new URL(page.url()).searchParams.get('m')).toBe('loss');
  });
});

test('the last shown run can be hidden, and every page says that all are', async () => {
  const [one = ''] = site.runs.hashes.filter((_, number) => number % 4 === 0);
  await site.visit(`/metrics?${SWEEP}&only=${one}&hide=other&m=/^loss$/`, async visit => {
    const { page } = visit;
    const list = page.getByRole('table', { name: 'Runs of the charts' });
    const eye = list.locator('button[aria-pressed=true]');
    await eye.hover();
    await page.locator('section[aria-label=loss] canvas[data-dimmed=true]').waitFor();
    await eye.click();
    await page.getByRole('heading', { name: `All ${COUNT} runs are hidden` }).waitFor();
    await status(page, new RegExp(`^\\s*0 of ${COUNT} shown`));
    await visit.shot('workspace-all-hidden');
    expect(await findings(page)).toEqual([]);
    for (const title of ['Params', 'Compare']) {
      await follow(page, title);
      await page.getByRole('heading', { name: `All ${COUNT} runs are hidden` }).waitFor();
    }
    await page.getByRole('button', { name: 'Show all', exact: true }).click();
    await status(page, new RegExp(`^\\s*${COUNT} runs`));
    expect(new URL(page.url()).searchParams.has('hide')).toBe(false);
    await follow(page, 'Metrics');
    // Two clicks on an eye hide a run and show it again.
    await list
      .getByRole('button', { name: /in charts$/ })
      .nth(1)
      .dblclick();
    await status(page, new RegExp(`^\\s*${COUNT} runs`));
    expect(new URL(page.url()).searchParams.has('only')).toBe(false);
    // Other lines are dimmed no longer when the run under the pointer is hidden.
    await list
      .getByRole('button', { name: /in charts$/ })
      .nth(1)
      .click();
    await page.locator('section[aria-label=loss] canvas[data-dimmed=false]').waitFor();
  });
});

test('a long table has the colors of the charts', async () => {
  const pick = (path: string): Promise<Record<string, string>> =>
    site.visit(path, async visit => {
      await visit.page.locator('[role=row] a').nth(9).waitFor();
      await visit.quiet();
      return colorsOf(visit.page);
    });
  const charts = await pick('/metrics');
  const table = await pick('/runs');
  const both = Object.keys(charts).filter(id => table[id]);
  expect(both.length).toBeGreaterThan(10);
  for (const id of both) expect(table[id]).toBe(charts[id]);
});

test('an address with the old name of the groups still groups', async () => {
  await site.visit('/runs?group=param:hparams.optimizer', async ({ page }) => {
    await page.getByRole('button', { name: /^By .*optimizer$/ }).waitFor();
    await status(page, /groups of/);
  });
});

test('a color that the palette lacks is ignored', async () => {
  const [id = ''] = site.runs.hashes;
  const colorWith = (query: string): Promise<string> =>
    site.visit(`/runs/${id}${query}`, async ({ page }) => {
      const swatch = page.locator('header svg rect[style]').first();
      return swatch.evaluate(one => getComputedStyle(one).fill);
    });
  const own = await colorWith('');
  for (const place of [12, 13, 14]) expect(await colorWith(`?colors=${id}%3D${place}`)).toBe(own);
});

test.each(['light', 'dark'] as const)(
  'a baseline and pins are set by mouse, and the comparison has the same baseline, %s',
  async theme => {
    await site.visit(
      `/runs?${SWEEP}`,
      async visit => {
        const { page } = visit;
        const rows = page.locator('.table .row:not(.head)');
        await rows.nth(3).locator('[data-run]').waitFor({ state: 'attached' });
        const id = await rows.nth(2).locator('[data-run]').getAttribute('data-run');
        await rows.nth(2).hover();
        await rows
          .nth(2)
          .getByRole('button', { name: /^Actions for/ })
          .click();
        await page.getByRole('menuitem', { name: 'Use as baseline' }).waitFor();
        await visit.shot(`row-menu-${theme}`);
        expect(await findings(page)).toEqual([]);
        await page.getByRole('menuitem', { name: 'Use as baseline' }).click();
        await page.waitForURL(new RegExp(`baseline=${id}`));
        await page.locator('.row small.digits:not(:empty)').first().waitFor();
        await page.locator('.row small.good').first().waitFor();
        await page.locator('.row small.bad').first().waitFor();
        await visit.shot(`runs-baseline-colored-${theme}`);
        // The second button opens the same menu, but on links, which have the menu of the browser.
        // Text that is selected elsewhere does not matter.
        await page.evaluate(() => getSelection()?.selectAllChildren(document.querySelector('h1')!));
        await rows
          .nth(4)
          .locator('[role=cell]')
          .nth(4)
          .click({ button: 'right', position: { x: 3, y: 3 } });
        await page.getByRole('menuitem', { name: 'Keep on top' }).click();
        await page.waitForURL(/pins=/);
        await follow(page, 'Compare');
        expect(new URL(page.url()).searchParams.get('baseline')).toBe(id);
        const first = page.locator('[role=columnheader] a').first();
        await eventually('the baseline comes first', async () =>
          (await first.getAttribute('href'))?.includes(id ?? 'none'),
        );
        const change = page.locator('[role=cell] small').first();
        await change.waitFor();
        expect(await change.textContent()).toMatch(/^[+−±][\d.\u202f]+ %$/);
        await visit.shot(`compare-baseline-${theme}`);
        expect(await findings(page)).toEqual([]);
      },
      { theme },
    );
  },
);

test('the menu of the chosen row opens by a key, and gives the run a color', async () => {
  await site.visit(`/runs?${SWEEP}`, async ({ page }) => {
    await page.locator('.table .row:not(.head) a').first().waitFor();
    await page.keyboard.press('j');
    await page.keyboard.press('.');
    await page.locator('[role=menu] :focus').waitFor();
    await page.getByRole('menuitem', { name: 'Color…' }).press('Enter');
    await page.locator('[role=menu] :focus', { hasText: 'Blue' }).waitFor();
    await page.getByRole('menuitem', { name: 'Purple' }).press('Enter');
    await page.waitForURL(/colors=/);
    await page.keyboard.press('.');
    await page.locator('[role=menu] :focus').waitFor();
    await page.getByRole('menuitem', { name: 'Show only this run, or all' }).press('Enter');
    await page.getByRole('button', { name: 'Only 1 shown' }).waitFor();
  });
});

test('runs of a comparison are moved, removed, and a baseline is set, by their menus', async () => {
  const ids = site.runs.hashes.slice(0, 3);
  await site.visit(`/compare?runs=${ids.join()}`, async ({ page }) => {
    const heads = page.locator('[role=columnheader] a');
    await heads.nth(2).waitFor();
    const order = async (): Promise<(string | undefined)[]> => {
      const links = await heads.evaluateAll(all => all.map(one => (one as HTMLAnchorElement).href));
      return links.map(link => /runs\/(\w+)/.exec(link)?.[1]);
    };
    const choose = async (column: number, title: string): Promise<void> => {
      await page.locator('[role=columnheader] .opener').nth(column).press('Enter');
      await page.locator('[role=menu] :focus').waitFor();
      await page.getByRole('menuitem', { name: title }).press('Enter');
    };
    await choose(0, 'Move right');
    await eventually('it is moved', async () => (await order())[1] === ids[0]);
    await choose(2, 'Use as baseline');
    await eventually('the baseline comes first', async () => (await order())[0] === ids[2]);
    await choose(2, 'Remove from the comparison');
    await eventually('two are left', async () => (await order()).length === 2);
    expect(await order()).toEqual([ids[2], ids[1]]);
    await page.getByRole('button', { name: 'Add runs' }).click();
    const dialog = page.getByRole('dialog', { name: 'Add runs' });
    await dialog.getByRole('searchbox', { name: 'Search runs' }).fill('live run');
    await dialog.getByRole('button', { name: 'Add live run' }).press('Enter');
    await eventually('three are compared', async () => (await order()).length === 3);
    expect(await findings(page)).toEqual([]);
  });
});
