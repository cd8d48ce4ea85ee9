/** The pages as a person uses them, in Chromium, against the real server. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import {
  eventually,
  findings,
  held,
  layoutShifts,
  untilNotified,
  allDrawn,
  Site,
  type Visit,
  type Project,
  type ProjectRuns,
  type VisitOptions,
} from './harness.ts';

let site: Site;
let project: Project;
let runs: ProjectRuns;

beforeAll(async () => {
  site = await Site.open();
  ({ project, runs } = site);
});

afterAll(() => site?.close());

function visit<T>(
  path: string,
  use: (visit: Visit) => Promise<T>,
  options?: VisitOptions,
): Promise<T> {
  return site.visit(path, use, options);
}

async function rowCount(page: Page): Promise<number> {
  return Number(await page.locator('[role=table]').first().getAttribute('aria-rowcount')) - 1;
}

describe('every page', () => {
  const pages: [name: string, path: () => string, ready: string][] = [
    ['home', () => '/', 'section a'],
    ['runs', () => '/runs', '[role=row] a'],
    ['run metrics', () => `/runs/${runs.hashes[5]}`, 'section h2'],
    ['run params', () => `/runs/${runs.hashes[5]}?tab=params`, '[role=rowheader]'],
    ['run overview', () => `/runs/${runs.hashes[5]}?tab=overview`, 'dl code'],
    ['odd run', () => `/runs/${runs.strange}?logy=1`, 'section h2'],
    ['wide run', () => `/runs/${runs.wide}`, 'section h2'],
    ['metrics', () => '/metrics', 'section h2'],
    ['params', () => '/params', 'polyline'],
    ['media', () => '/media', 'canvas[data-drawn]'],
    ['compare', () => '/compare', '[role=rowheader]'],
    ['experiments', () => '/experiments', '[role=cell]'],
    ['tags', () => '/tags', '[role=cell]'],
    ['dashboards', () => '/dashboards', 'h2'],
    ['reports', () => '/reports', 'h2'],
    ['bin', () => '/bin', 'h2'],
    ['missing', () => '/nothing/here', 'h2'],
  ];
  for (const theme of ['light', 'dark'] as const) {
    test.each(pages)(
      `%s opens without errors and without findings, ${theme}`,
      async (name, path, ready) => {
        await visit(
          path(),
          async visit => {
            await visit.page.waitForSelector(ready);
            if (ready === 'section h2') await allDrawn(visit.page);
            await visit.shot(`${name.replace(' ', '-')}-${theme}`);
            expect(await findings(visit.page)).toEqual([]);
          },
          { theme },
        );
      },
    );
  }

  test('a phone shows a run', async () => {
    await visit(
      `/runs/${runs.hashes[5]}`,
      async visit => {
        await allDrawn(visit.page);
        await visit.shot('run-metrics-phone');
        expect(
          await visit.page.evaluate(() => document.documentElement.scrollWidth),
        ).toBeLessThanOrEqual(390);
        const tabs = await visit.page
          .getByRole('tab')
          .evaluateAll(all => all.map(one => [one.clientWidth, one.scrollWidth]));
        for (const [room, wanted] of tabs) expect(room).toBe(wanted);
        expect(await findings(visit.page)).toEqual([]);
      },
      { width: 390, height: 844 },
    );
  });
});

test('a phone shows lists, their page, and the size of the project', async () => {
  await visit(
    '/experiments',
    async ({ page }) => {
      await page.getByRole('cell', { name: 'baseline', exact: true }).waitFor();
      const inView = (selector: string): Promise<boolean> =>
        page.locator(selector).evaluate(one => {
          const { left, right } = one.getBoundingClientRect();
          const bar = one.closest('ul')?.getBoundingClientRect();
          return left >= (bar?.left ?? 0) && right <= (bar?.right ?? innerWidth);
        });
      expect(await inView('nav li:visible >> nth=-1')).toBe(true);
      await page.click('nav [aria-label="More pages"]');
      const chosen = page.locator('.more [role=menuitemradio][aria-checked=true]');
      expect((await chosen.textContent())?.trim()).toBe('Experiments');
      await page.click('.more [role=menuitemradio]:has-text("Tags")');
      await page.waitForURL(/tags/);
      await page.goBack();
      await page.getByRole('cell', { name: 'baseline', exact: true }).waitFor();
      const headings = page.getByRole('columnheader');
      const hidden = headings.filter({ hasText: 'Description' });
      expect(
        await hidden.evaluate(one => [one.clientWidth, getComputedStyle(one).overflow]),
      ).toEqual([0, 'hidden']);
      await page.goto(new URL('/project', page.url()).href);
      await page.locator('dl b').last().waitFor();
      for (const fact of await page.locator('dl b').all())
        expect(
          await fact.evaluate(one => one.getBoundingClientRect().right < innerWidth - 40),
        ).toBe(true);
    },
    { width: 390, height: 844 },
  );
});

test('the head of a comparison is whole on a phone', async () => {
  await visit(
    '/compare',
    async visit => {
      const { page } = visit;
      await page.waitForSelector('[role=rowheader]');
      for (const name of [
        'h1',
        '.head-of-tabs [role=status]',
        '.query',
        'label:has-text("Show equal")',
      ]) {
        const box = (await page.locator(name).first().boundingBox())!;
        expect(box.x + box.width).toBeLessThanOrEqual(390);
        expect(box.height).toBeLessThan(34);
      }
      expect((await page.locator('.query').boundingBox())!.width).toBeGreaterThan(200);
      await visit.shot('compare-phone');
      expect(await findings(page)).toEqual([]);
    },
    { width: 390, height: 844 },
  );
});

test('a phone shows titles of media as a whole, and two images next to each other', async () => {
  await visit(
    `/runs/${runs.studio}?tab=media`,
    async visit => {
      const { page } = visit;
      await page.waitForSelector('.object canvas[data-drawn]');
      const title = page.locator('.title h2').first();
      expect(await title.textContent()).toBe('reconstructions');
      const box = (await title.boundingBox())!;
      const room = await title.evaluate(one => one.scrollWidth);
      expect([box.height < 26, room <= Math.ceil(box.width)]).toEqual([true, true]);
      const objects = page.locator('.cards .object');
      expect(await objects.first().locator('p').textContent()).toContain('subset=train');
      const tops = await objects.evaluateAll(all =>
        all.map(one => one.getBoundingClientRect().top),
      );
      expect(tops[1]).toBe(tops[0]);
      expect(tops[0]).toBeGreaterThanOrEqual(box.y + box.height);
      // No line is left for a title that the second row of a group does not have.
      const bottoms = await objects.evaluateAll(all =>
        all.map(one => one.getBoundingClientRect().bottom),
      );
      expect(tops[2]! - bottoms[0]!).toBeGreaterThan(0);
      expect(tops[2]! - bottoms[0]!).toBeLessThan(26);
      await visit.shot('phone-media');
      expect(await findings(page)).toEqual([]);
    },
    { width: 390, height: 844 },
  );
});

test.each<[name: string, path: () => string, ready: string]>([
  ['home', () => '/', '.weeks > div'],
  ['metrics', () => '/metrics', 'canvas.base[data-series]'],
  ['run', () => `/runs/${runs.live}`, 'canvas.base[data-series="1"]'],
  ['params', () => '/params', 'polyline'],
  ['media', () => '/media', 'canvas[data-drawn]'],
  [
    'comparison',
    () => `/compare?runs=${[...runs.hashes.slice(0, 3), runs.live].join()}`,
    '[role=rowheader]',
  ],
])('nothing moves while the page %s opens, and while it follows a run', async (_, path, ready) => {
  await visit(path(), async visit => {
    const { page } = visit;
    await page.locator(ready).first().waitFor({ state: 'attached' });
    await page.waitForSelector('.stream:has-text("Live")');
    await visit.quiet();
    await untilNotified(page, () => project.track(0.9));
    await visit.quiet();
    expect(await layoutShifts(page)).toEqual([]);
  });
});

test('times are those of the zone of the reader', async () => {
  for (const timeZone of ['Pacific/Kiritimati', 'America/St_Johns']) {
    await visit(
      `/runs/${runs.studio}?tab=logs`,
      async ({ page }) => {
        const format = (style: Intl.DateTimeFormatOptions, ms: number): string =>
          new Intl.DateTimeFormat('en-US', { ...style, timeZone }).format(ms);
        const created = page.locator('time').first();
        const ms = Date.parse((await created.getAttribute('datetime'))!);
        expect(await created.getAttribute('title')).toBe(
          format({ dateStyle: 'medium', timeStyle: 'long' }, ms),
        );
        // Records are between then and now.
        const seconds = Array.from(
          { length: (Date.now() - ms) / 1_000 + 2 },
          (_, at) => ms + at * 1_000,
        );
        const record = await page.locator('.window [role=cell]').first().textContent();
        expect(seconds.map(at => format({ timeStyle: 'medium' }, at))).toContain(record);
      },
      { timezoneId: timeZone },
    );
  }
});

test('the navigation is folded, by mouse and by key, and stays so', async () => {
  await visit('/runs', async visit => {
    const { page } = visit;
    const width = (): Promise<number> =>
      page.locator('nav[aria-label=Pages]').evaluate(one => one.getBoundingClientRect().width);
    const wide = await width();
    await page.getByRole('button', { name: 'Fold the navigation' }).click();
    expect(await width()).toBeLessThan(wide / 2);
    await page.reload();
    await page.getByRole('link', { name: 'Metrics', exact: true }).waitFor();
    expect(await width()).toBeLessThan(wide / 2);
    await visit.shot('folded');
    expect(await findings(page)).toEqual([]);
    await page.keyboard.press('[');
    await eventually('it is as wide as before', async () => (await width()) === wide);
  });
});

test('a chosen tab moves no other one', async () => {
  await visit(`/runs/${runs.studio}`, async ({ page }) => {
    const places = (): Promise<number[]> =>
      page.getByRole('tab').evaluateAll(all => all.map(one => one.getBoundingClientRect().left));
    const before = await places();
    await page.getByRole('tab', { name: 'Environment' }).click();
    await page.getByRole('tab', { name: 'Environment', selected: true }).waitFor();
    expect(await places()).toEqual(before);
  });
});

test('the address may name columns that do not exist', async () => {
  await visit('/runs?by=nothing', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    expect(await rowCount(page)).toBe(runs.hashes.length);
  });
  await visit('/metrics?by=param:none.such', async ({ page }) => {
    await page.waitForSelector('canvas');
    const chosen = await page.getByRole('combobox', { name: 'Color by' }).evaluate(one => {
      return (one as HTMLSelectElement).selectedOptions[0]?.textContent;
    });
    expect(chosen).toBe('param:none.such');
  });
});

test('the home page has the weeks up to the edge of their card, and whole values', async () => {
  await visit('/', async ({ page }) => {
    await page.locator('.weeks > div').last().waitFor();
    const right = (selector: string): Promise<number> =>
      page
        .locator(selector)
        .last()
        .evaluate(one => one.getBoundingClientRect().right);
    expect(Math.abs((await right('.weeks')) - (await right('.weeks i')))).toBeLessThan(1);
    expect(await page.locator('.weeks small:not(:empty)').count()).toBeGreaterThan(9);
    const values = await page
      .locator('.values .line')
      .evaluateAll(all => all.map(one => one.scrollWidth <= one.clientWidth));
    expect(values).not.toContain(false);
    // The run has none of the most important metrics of the project.
    await eventually('a run with other metrics has a value', async () =>
      /signal\s*−?[\d.]/.test(
        (await page.locator('.run', { hasText: 'one spike' }).textContent()) ?? '',
      ),
    );
  });
});

test('a query filters while it is typed, and going back undoes it', async () => {
  await visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    const all = await rowCount(page);
    expect(all).toBe(runs.hashes.length);
    await page.keyboard.press('/');
    // At once: its beginning is a query too, which a pause would search.
    await page.keyboard.insertText('run.hparams.optimizer == "adam"');
    await eventually('the query is applied', async () => (await rowCount(page)) < all);
    expect(new URL(page.url()).searchParams.get('q')).toBe('run.hparams.optimizer == "adam"');
    await page.goBack();
    await eventually('the query is undone', async () => (await rowCount(page)) === all);
    expect(await page.inputValue('[aria-label="Filter runs by a query"]')).toBe('');
  });
});

test('an invalid query is underlined with its reason, and the rows stay', async () => {
  await visit('/runs', async visit => {
    const { page } = visit;
    await page.waitForSelector('[role=row] a');
    await page.fill('[aria-label="Filter runs by a query"]', 'run.name == = 3');
    await page.waitForSelector('[aria-invalid=true]');
    expect(await page.textContent('.query [role=status]')).not.toBe('');
    expect(await page.textContent('.mirror u')).not.toBe('');
    expect(await rowCount(page)).toBe(runs.hashes.length);
    await visit.shot('runs-invalid-query');
    await page.goto(`${visit.base}/runs?q=run.name ==`);
    await page.locator('.query [role=status].bad').waitFor();
    expect(await page.textContent('.query [role=status]')).not.toContain('<query>');
    expect(await page.getByRole('alert').count()).toBe(0);
  });
});

test('columns are sorted by the server', async () => {
  await visit(
    '/runs?q=run.hparams.batch_size&sort=-metric%3Aloss%20%7B%22subset%22%3A%22val%22%7D',
    async ({ page }) => {
      await page.waitForSelector('[role=columnheader][aria-sort=descending]');
      const titles = await page.locator('[role=columnheader]').allTextContents();
      const at = titles.findIndex(title => title.includes('loss val'));
      const values = async (): Promise<number[]> => {
        const texts = await page
          .locator(`[role=row] [role=cell]:nth-child(${at + 1})`)
          .allTextContents();
        return texts.map(text => Number(text.trim())).filter(value => value > 0);
      };
      const shown = await eventually('values are shown', async () => {
        const all = await values();
        return all.length > 10 ? all : undefined;
      });
      expect(shown).toEqual([...shown].sort((a, b) => b - a));
    },
  );
});

test('the palette says that nothing has a name only when it knows', async () => {
  await visit('/runs', async ({ page }) => {
    const release = await held(page, 'ProjectService/FindColumns');
    await page.keyboard.press('Control+k');
    await page.getByRole('combobox').fill('no such name');
    const status = page.locator('dialog[open] [role=status]');
    await eventually(
      'it searches',
      async () => (await status.textContent())?.trim() === 'Searching…',
    );
    await release();
    await eventually('it knows', async () =>
      (await status.textContent())?.includes('Nothing has this name'),
    );
  });
});

test('a palette that is opened while it closes is open', async () => {
  await visit('/runs', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    await page.keyboard.press('Control+k');
    await page.waitForSelector('dialog[open] [role=option]');
    await page.evaluate(async () => {
      const dialog = document.querySelector<HTMLDialogElement>('dialog[open]');
      dialog?.dispatchEvent(new Event('cancel'));
      dialog?.close();
      // The event `close` comes later.
      for (let turn = 0; turn < 9; turn++) await Promise.resolve();
      window.dispatchEvent(new KeyboardEvent('keydown', { key: 'k', ctrlKey: true }));
      await new Promise(resolve => setTimeout(resolve, 100));
    });
    await page.waitForSelector('dialog[open] [role=option]');
  });
});

test('all of it works by keyboard', async () => {
  await visit('/runs', async visit => {
    const { page } = visit;
    await page.waitForSelector('[role=row] a');
    for (const key of ['j', 'j', 'Enter']) await page.keyboard.press(key);
    await page.waitForURL(/\/runs\/\w+/);
    await page.waitForSelector('[role=tablist]');
    await page.keyboard.press('3');
    await page.waitForURL(/tab=params/);
    await page.keyboard.press('u');
    await page.waitForURL(/\/runs$/);
    await page.keyboard.press('g');
    await page.keyboard.press('t');
    await page.waitForURL(/\/tags$/);
    await page.keyboard.press('?');
    await page.waitForSelector('dialog[open] [role=option]:has-text("Go to tags") kbd');
    await visit.shot('keyboard');
    expect(await findings(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+k');
    await page.waitForSelector('dialog[open] [role=option]');
    await page.keyboard.type('one spi');
    const chosen = '[role=option][aria-selected=true]';
    await page.waitForSelector(`${chosen}:has-text("one spike")`);
    await visit.shot('palette');
    expect(await findings(page)).toEqual([]);
    await page.keyboard.press('Enter');
    await page.waitForURL(new RegExp(runs.spike));
    await page.keyboard.press('Control+k');
    await page.keyboard.type('grad_n');
    await page.waitForSelector(`${chosen}:has-text("grad_norm"):has-text("Metric")`);
    await page.keyboard.press('Enter');
    await page.waitForSelector('section h2:text-is("grad_norm")');
    expect(new URL(page.url()).searchParams.get('m')).toBe('/^grad_norm$/');
  });
});

test('an unknown run leads to the others', async () => {
  await visit(`/runs/${'f'.repeat(32)}`, async ({ page }) => {
    await page.getByRole('heading', { name: 'There is no such run' }).waitFor();
    await page.getByRole('link', { name: 'Go to the runs' }).click();
    await page.waitForSelector('[role=row] a');
  });
});

test('the first view of the runs has their results, the best first after one click', async () => {
  await visit('/runs?q=run.hparams.batch_size', async ({ page }) => {
    await page.waitForSelector('[role=row] a');
    const headings = await page.locator('[role=columnheader]').allTextContents();
    const loss = headings.findIndex(text => text.trim().startsWith('loss val'));
    expect(loss).toBeGreaterThan(0);
    await page.getByRole('button', { name: 'loss val' }).first().click();
    await page.waitForURL(/sort=metric/);
    const cells = page.locator(`.window [role=row] > :nth-child(${loss + 1})`);
    await eventually('the lowest loss is first', async () => {
      const values = (await cells.allTextContents())
        .map(Number)
        .filter(value => !Number.isNaN(value));
      return (
        values.length > 5 &&
        values.every((value, at) => at === 0 || value >= (values[at - 1] as number))
      );
    });
  });
});

test('a phone shows the names and values of active runs on the home page', async () => {
  await visit(
    '/',
    async ({ page }) => {
      const name = page.locator('section a', { hasText: 'live run' }).first();
      await name.waitFor();
      expect((await name.boundingBox())!.width).toBeGreaterThan(40);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
    },
    { width: 390, height: 844 },
  );
});

test('addresses of media in Aim lead to the page of media', async () => {
  for (const [from, to] of [
    ['/images', '/media'],
    ['/texts', '/media?kind=texts'],
    ['/audios/', '/media?kind=audio'],
  ]) {
    await site.visit(from as string, async ({ page, base }) => {
      await page.waitForSelector('h1:text-is("Media")');
      expect(page.url()).toBe(base + to);
    });
  }
});

test('addresses that clients of W&B and MLflow print lead to pages', async () => {
  for (const [from, title, to] of [
    ['/matyan/no%20such', 'Runs', '/runs?q=run.experiment+%3D%3D+%22no+such%22'],
    ['/#/experiments/0', 'Experiments', '/experiments'],
  ]) {
    await site.visit(from as string, async ({ page, base }) => {
      await page.waitForSelector(`h1:text-is("${title}")`);
      expect(page.url()).toBe(base + to);
    });
  }
});
