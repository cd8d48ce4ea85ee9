/** The pages as a person uses them, in Chromium, against the real server. */
import { readFile } from 'node:fs/promises';

import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { SeriesService } from '../src/gen/matyan/series/v1/series_pb.ts';
import { PALETTE } from '../src/plot/palette.ts';
import {
  eventually,
  findings,
  held,
  layoutShifts,
  Site,
  untilNotified,
  Visit,
  type Project,
  type ProjectRuns,
  type Server,
  type VisitOptions,
} from './harness.ts';

let site: Site;
let browser: Browser;
let server: Server;
let project: Project;
let runs: ProjectRuns;

beforeAll(async () => {
  site = await Site.open();
  ({ browser, server, project, runs } = site);
});

afterAll(() => site?.close());

function visit<T>(path: string, use: (visit: Visit) => Promise<T>, options?: VisitOptions): Promise<T> {
  return site.visit(path, use, options);
}

async function rowCount(page: Page): Promise<number> {
  return Number(await page.locator('[role=table]').first().getAttribute('aria-rowcount')) - 1;
}

/** Waits until every chart in view has been drawn with its series. */
async function drawn(page: Page): Promise<void> {
  await eventually('charts are drawn', () =>
    page.evaluate(() => {
      const charts = [...document.querySelectorAll<HTMLCanvasElement>('canvas.base')];
      return (
        charts.length > 0 &&
        charts.every(chart => Number(chart.dataset.draws) >= 1 && chart.dataset.series !== '0')
      );
    }),
  );
}

/** Numbers of the series that were read for charts. */
function seriesRead(visit: Visit): Set<string> {
  const runs = visit.requests(SeriesService.method.buckets).flatMap(request => request.runs);
  return new Set(runs.flatMap(({ runId, numbers }) => numbers.map(number => `${number}/${runId}`)));
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
    ['missing', () => '/nothing/here', 'h2'],
  ];
  for (const theme of ['light', 'dark'] as const) {
    test.each(pages)(`%s opens without errors and without findings, ${theme}`, async (name, path, ready) => {
      await visit(
        path(),
        async visit => {
          await visit.page.waitForSelector(ready);
          if (ready === 'section h2') await drawn(visit.page);
          await visit.shot(`${name.replace(' ', '-')}-${theme}`);
          expect(await findings(visit.page)).toEqual([]);
        },
        { theme },
      );
    });
  }

  test('a phone shows a run', async () => {
    await visit(
      `/runs/${runs.hashes[5]}`,
      async visit => {
        await drawn(visit.page);
        await visit.shot('run-metrics-phone');
        expect(await visit.page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(
          390,
        );
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
      expect(await hidden.evaluate(one => [one.clientWidth, getComputedStyle(one).overflow])).toEqual([
        0,
        'hidden',
      ]);
      await page.goto(new URL('/project', page.url()).href);
      await page.locator('dl b').last().waitFor();
      for (const fact of await page.locator('dl b').all())
        expect(await fact.evaluate(one => one.getBoundingClientRect().right < innerWidth - 40)).toBe(true);
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
      for (const name of ['h1', '.head-of-tabs [role=status]', '.query', 'label:has-text("Show equal")']) {
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
      expect(await title.textContent()).toBe('reconstructions val');
      const [box, room] = [(await title.boundingBox())!, await title.evaluate(one => one.scrollWidth)];
      expect([box.height < 26, room <= Math.ceil(box.width)]).toEqual([true, true]);
      const objects = page.locator('.cards .object');
      const tops = await objects.evaluateAll(all => all.map(one => one.getBoundingClientRect().top));
      expect(tops[1]).toBe(tops[0]);
      expect(tops[0]).toBeGreaterThanOrEqual(box.y + box.height);
      // No line is left for a title that the second row of a group does not have.
      const bottoms = await objects.evaluateAll(all => all.map(one => one.getBoundingClientRect().bottom));
      expect(tops[2]! - bottoms[0]!).toBeGreaterThan(0);
      expect(tops[2]! - bottoms[0]!).toBeLessThan(26);
      const next = (await page.locator('.title h2').nth(1).boundingBox())!.y;
      expect(next - bottoms[2]!).toBeLessThan(26);
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
  ['comparison', () => `/compare?runs=${[...runs.hashes.slice(0, 3), runs.live].join()}`, '[role=rowheader]'],
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
        const seconds = Array.from({ length: (Date.now() - ms) / 1_000 + 2 }, (_, at) => ms + at * 1_000);
        const record = await page.locator('.window [role=cell]').first().textContent();
        expect(seconds.map(at => format({ timeStyle: 'medium' }, at))).toContain(record);
      },
      { timezoneId: timeZone },
    );
  }
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
  await visit('/runs?group=nothing', async ({ page }) => {
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
    // It has none of the metrics that are the most important ones of the project.
    await eventually('a run with other metrics has a value', async () =>
      /signal\s*−?[\d.]/.test((await page.locator('.run', { hasText: 'one spike' }).textContent()) ?? ''),
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
        const texts = await page.locator(`[role=row] [role=cell]:nth-child(${at + 1})`).allTextContents();
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
    await eventually('it searches', async () => (await status.textContent())?.trim() === 'Searching…');
    await release();
    await eventually('it knows', async () => (await status.textContent())?.includes('Nothing has this name'));
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
      const values = (await cells.allTextContents()).map(Number).filter(value => !Number.isNaN(value));
      return (
        values.length > 5 && values.every((value, at) => at === 0 || value >= (values[at - 1] as number))
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

test('a chart shows the spike of one point, zooms by drag, and back undoes it', async () => {
  await visit(`/runs/${runs.spike}`, async visit => {
    const { page } = visit;
    await drawn(page);
    const chart = page.locator('.pointer').first();
    const box = (await chart.boundingBox())!;
    // The spike reaches the top of the frame, where nothing else is.
    const isHigh = await page
      .locator('canvas.base')
      .first()
      .evaluate((canvas, color) => {
        const { width, height } = canvas as HTMLCanvasElement;
        const context = (canvas as HTMLCanvasElement).getContext('2d')!;
        const { data } = context.getImageData(0, 0, width, Math.round(height * 0.2));
        const wanted = [1, 3, 5].map(at => Number.parseInt(color.slice(at, at + 2), 16));
        return data.some(
          (alpha, at) =>
            at % 4 === 3 &&
            alpha > 60 &&
            wanted.every((part, own) => Math.abs((data[at - 3 + own] ?? 0) - part) < 12),
        );
      }, PALETTE[0]!.light);
    expect(isHigh).toBe(true);
    const before = visit.calls.filter(call => call === 'SeriesService/Buckets').length;
    await page.mouse.move(box.x + box.width * 0.5, box.y + 60);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.6, box.y + 60, { steps: 4 });
    await visit.shot('zooming');
    await page.mouse.up();
    await page.waitForURL(/from=/);
    await eventually(
      'finer buckets are read',
      () => visit.calls.filter(call => call === 'SeriesService/Buckets').length > before,
    );
    await drawn(page);
    await visit.shot('zoomed');
    await page.goBack();
    await page.waitForURL(url => !url.search.includes('from='));
  });
});

test.each([3, 9, 40])('the legend of a chart of %d runs is one row without overlaps', async count => {
  const ids = runs.hashes.slice(0, count).map(id => JSON.stringify(id));
  const q = encodeURIComponent(`run.hash in (${ids.join(', ')})`);
  await visit(`/metrics?q=${q}&m=grad`, async visit => {
    await drawn(visit.page);
    await visit.shot(`legend-${count}`);
    const boxes = await visit.page.locator('.legend li').evaluateAll(items =>
      items.map(item => {
        const { left, right, top } = item.getBoundingClientRect();
        const end = Math.max(...[...item.children].map(child => child.getBoundingClientRect().right), left);
        return { left, right, top, end };
      }),
    );
    for (const [at, { left, right, top, end }] of boxes.entries()) {
      expect(end).toBeLessThanOrEqual(right + 0.5);
      expect(left).toBeGreaterThanOrEqual(boxes[at - 1]?.right ?? 0);
      expect(top).toBe(boxes[0]?.top);
    }
  });
});

test('the hover is shown on all charts, without drawing them again', async () => {
  await visit(`/runs/${runs.hashes[5]}`, async visit => {
    const { page } = visit;
    await drawn(page);
    await visit.quiet();
    const draws = (): Promise<string[]> =>
      page
        .locator('canvas.base')
        .evaluateAll(all => all.map(one => (one as HTMLElement).dataset.draws ?? ''));
    const before = await draws();
    const box = (await page.locator('.pointer').first().boundingBox())!;
    for (let at = 0; at < 20; at++) await page.mouse.move(box.x + 100 + at * 10, box.y + 80);
    await page.waitForSelector('.tooltip tr.ink');
    await visit.shot('hover');
    await eventually('all charts are marked', () =>
      page.locator('.pointer canvas').evaluateAll(all =>
        all.every(canvas => {
          const { width, height } = canvas as HTMLCanvasElement;
          return (canvas as HTMLCanvasElement)
            .getContext('2d')!
            .getImageData(0, 0, width, height)
            .data.some(value => value > 0);
        }),
      ),
    );
    expect(await draws()).toEqual(before);
  });
});

test('a chart is saved as PNG, SVG, and CSV of all points', async () => {
  await visit(`/runs/${runs.spike}`, async ({ page }) => {
    await drawn(page);
    const save = (title: string): Promise<Buffer> => savedChart(page, 'signal', title);
    const color = PALETTE[0]!.light;
    const svg = (await save('SVG')).toString();
    expect(svg).toMatch(/^<svg .*<\/svg>$/);
    const [, path = ''] = new RegExp(`<path d="([^"]*)"[^>]*stroke="${color}"`).exec(svg) ?? [];
    const heights = [...path.matchAll(/[ML][\d.]+ ([\d.]+)/g)].map(([, y]) => Number(y));
    expect(heights.length).toBeGreaterThan(300);
    // The spike alone is at the top.
    const [top = 0, ...others] = heights.toSorted((a, b) => a - b);
    expect(top).toBeLessThan(others[1]! - 100);
    expect(svg).toMatch(/<text [^>]*>100<\/text>/);
    const png = await save('PNG');
    const columns = await coloredColumns(page, png, color);
    const { width } = (await page.locator('section.card').boundingBox())!;
    // The line goes over the whole frame, and the labels are left of it.
    expect(columns.length).toBeGreaterThan(2 * width * 0.85);
    expect(columns.length).toBeLessThan(2 * width * 0.99);
    const lines = (await save('CSV')).toString().trim().split('\n');
    expect(lines.length).toBe(100_001);
    const value = (step: number): number => Number(lines[step + 1]?.split(',').at(-1));
    expect([value(54_321), value(9_000), value(0)]).toEqual([100, Math.sin(1) * 0.1, 0]);
  });
});

test('values that are not finite are marked on the page, and in its files', async () => {
  await visit(`/runs/${runs.strange}?m=odd`, async ({ page }) => {
    await drawn(page);
    const svg = (await savedChart(page, 'odd values', 'SVG')).toString();
    const color = PALETTE[0]!.light;
    const triangles = svg.match(new RegExp(`<polygon [^>]*fill="${color}"/>`, 'g')) ?? [];
    const cross = /<path d="(M[\d.]+ [\d.]+h0L[\d.]+ [\d.]+){2}"[^>]*>/g;
    // Every fifth of 60 steps has another value, which is a finite one for every fourth of them.
    expect([svg.match(cross)?.length, triangles.length]).toEqual([3, 6]);
    const png = await savedChart(page, 'odd values', 'PNG');
    // Near the top are three triangles, and the end of the line at the right.
    const { width } = (await page.locator('section.card').boundingBox())!;
    const columns = await coloredColumns(page, png, color, 40);
    const tops = columns.filter(column => column < 2 * width * 0.85);
    expect(tops.length).toBeGreaterThan(3 * 8);
    expect(tops.length).toBeLessThan(3 * 20);
    await page.locator('.pointer').first().hover();
    await page.getByText('At the edges: × NaN, ▲ ∞, ▼ −∞').waitFor();
  });
});

test('a chart fills the screen on request', async () => {
  await visit(`/runs/${runs.hashes[5]}`, async ({ page }) => {
    await drawn(page);
    const card = page.locator('section[aria-label=loss]');
    const before = (await card.boundingBox())!;
    await page.click('button[aria-label="Actions for loss"]');
    await page.click('[role=menuitem]:has-text("Full screen"):visible');
    await page.waitForFunction(() => document.fullscreenElement?.getAttribute('aria-label') === 'loss');
    // The chart is drawn as large as its card.
    const canvas = card.locator('canvas.base');
    await eventually('it is larger', async () => {
      const { width, height } = (await canvas.boundingBox())!;
      const pixels = await canvas.evaluate(one => (one as HTMLCanvasElement).width);
      return width > 1.5 * before.width && height > 1.5 * before.height && pixels === width;
    });
    await card.locator('.pointer').hover();
    await page.locator('.tooltip tr.ink').waitFor();
    await page.evaluate(() => document.exitFullscreen());
    await eventually('it is as before', async () => (await card.boundingBox())!.width === before.width);
  });
});

test('a zoomed chart keeps its line until the finer one has arrived', async () => {
  await visit(`/runs/${runs.spike}`, async visit => {
    const { page } = visit;
    await drawn(page);
    await visit.quiet();
    const canvas = page.locator('canvas.base').first();
    const draws = async (): Promise<number> => Number(await canvas.getAttribute('data-draws'));
    /** Columns of pixels with something of the line, as a part of all. */
    const filled = (): Promise<number> =>
      canvas.evaluate((canvas, color) => {
        const { width, height } = canvas as HTMLCanvasElement;
        const { data } = (canvas as HTMLCanvasElement).getContext('2d')!.getImageData(0, 0, width, height);
        const [red, green, blue] = [1, 3, 5].map(at => Number.parseInt(color.slice(at, at + 2), 16));
        const found = new Set<number>();
        const isNear = (at: number, part = 0): boolean => Math.abs((data[at] ?? 0) - part) < 8;
        for (let at = 0; at < data.length; at += 4)
          if (isNear(at, red) && isNear(at + 1, green) && isNear(at + 2, blue) && data[at + 3]! > 90)
            found.add((at / 4) % width);
        return found.size / width;
      }, PALETTE[0]!.light);
    const whole = await filled();
    expect(whole).toBeGreaterThan(0.8);
    const release = await held(page, 'SeriesService/Buckets');
    const [before, reads] = [await draws(), visit.requests(SeriesService.method.buckets).length];
    await page.locator('.pointer').first().press('+');
    await page.waitForURL(/from=/);
    await eventually('finer buckets are asked for', () => {
      return visit.requests(SeriesService.method.buckets).length > reads;
    });
    await eventually('it is drawn', async () => (await draws()) > before);
    expect(await filled()).toBeGreaterThan(0.5);
    const coarse = await draws();
    await release();
    await eventually('it is drawn again', async () => (await draws()) > coarse);
    expect(await filled()).toBeGreaterThan(0.5);
  });
});

/** A file of a chart, by the title of its entry in the menu. */
async function savedChart(page: Page, name: string, title: string): Promise<Buffer> {
  await page.click(`button[aria-label="Actions for ${name}"]`);
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.click(`[role=menuitem]:has-text("${title}"):visible`),
  ]);
  return readFile(await download.path());
}

/** Columns of pixels of a PNG that have a color, within the uppermost rows. */
async function coloredColumns(page: Page, png: Buffer, color: string, rows = Infinity): Promise<number[]> {
  const found = { text: png.toString('base64'), color, rows: Math.min(rows, 1e6) };
  return page.evaluate(async ({ text, color, rows }) => {
    const bytes = Uint8Array.from(atob(text), sign => sign.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes]));
    const canvas = new OffscreenCanvas(image.width, Math.min(image.height, rows));
    const context = canvas.getContext('2d')!;
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const wanted = [1, 3, 5].map(at => Number.parseInt(color.slice(at, at + 2), 16));
    const columns = new Set<number>();
    for (let at = 0; at < data.length; at += 4)
      if (wanted.every((part, own) => Math.abs((data[at + own] as number) - part) < 24))
        columns.add((at / 4) % canvas.width);
    return [...columns];
  }, found);
}

test('ten tabs show a tracked point over one stream, and ask for nothing while nothing changes', async () => {
  const context = await browser.newContext({ viewport: { width: 900, height: 700 } });
  const tabs: Visit[] = [];
  for (let tab = 0; tab < 10; tab++) {
    const open = await Visit.inContext(await context.newPage(), server, `/runs/${runs.live}`);
    await open.page.waitForSelector('.legend b');
    await eventually(
      'the stream is open',
      async () => (await open.page.textContent('.stream'))?.trim() === 'Live',
    );
    tabs.push(open);
  }
  const shows = (value: string): Promise<unknown> =>
    Promise.all(
      tabs.map(({ page }) => page.waitForSelector(`.legend b:text-is("${value}")`, { state: 'attached' })),
    );
  // The first point is new to the caches; the others are tails.
  for (const value of [0.75, 0.5, 0.25]) {
    await project.track(value);
    await shows(String(value));
  }
  const opened = tabs.flatMap(({ calls }) => calls).filter(call => call === 'RunService/Watch');
  expect(opened.length).toBe(1);
  const callsWithin = async (ms: number): Promise<string[]> => {
    const before = tabs.map(({ calls }) => calls.length);
    await new Promise(resolve => setTimeout(resolve, ms));
    return tabs.flatMap(({ calls }, at) => calls.slice(before[at]));
  };
  // The list of metrics is read again after a pause. After that nothing is asked for while nothing changes.
  await eventually('the pages have settled', async () => (await callsWithin(2_500)).length === 0);
  expect(await callsWithin(15_000)).toEqual([]);
  // The tab that reads is closed: another one continues.
  const reading = tabs.find(({ calls }) => calls.includes('RunService/Watch'))!;
  await reading.page.close();
  tabs.splice(tabs.indexOf(reading), 1);
  await eventually('another tab reads', () => tabs.some(({ calls }) => calls.includes('RunService/Watch')));
  await project.track(0.125);
  await shows('0.125');
  expect(tabs.flatMap(({ errors }) => errors)).toEqual([]);
  await context.close();
});

test('the page continues after the server was away', async () => {
  const open = await Visit.open(browser, server, '/runs');
  await eventually(
    'the stream is open',
    async () => (await open.page.textContent('.stream'))?.trim() === 'Live',
  );
  const top = async (): Promise<number> =>
    (await open.page.locator('.window [role=row]').first().boundingBox())!.y;
  const before = await top();
  await server.stop();
  await eventually('the loss is shown', async () =>
    (await open.page.textContent('.stream'))?.includes('Offline'),
  );
  await open.page.click('[role=columnheader] button:has-text("Name")');
  await open.page.waitForSelector('[role=alert] button:has-text("Retry")');
  // The error is shown above the rows.
  expect(await top()).toBe(before);
  await open.shot('server-away');
  await server.run();
  await eventually(
    'the stream is back',
    async () => (await open.page.textContent('.stream'))?.trim() === 'Live',
  );
  // It is read again without a click.
  await open.page.waitForSelector('[role=alert]', { state: 'detached' });
  expect(await rowCount(open.page)).toBe(runs.hashes.length);
  await open.page.context().close();
});

test('what could not be read is read again after the server was away', async () => {
  const open = await Visit.open(browser, server, '/compare');
  const { page } = open;
  await page.waitForSelector('.stream:has-text("Live")');
  await server.stop();
  await page.waitForSelector('.stream:has-text("Offline")');
  await page.evaluate(() => {
    history.pushState({}, '', '/compare?q="sweep" in run.name');
    dispatchEvent(new PopStateEvent('popstate'));
  });
  await page.waitForSelector('[role=alert] button:has-text("Retry")');
  await server.run();
  await page.waitForSelector('[role=alert]', { state: 'detached' });
  await page.getByRole('link', { name: 'resnet50 sweep 01' }).waitFor();
  await page.context().close();
});

test('charts are read again as soon as the server is back, and an edit waits for the reader', async () => {
  const open = await Visit.open(browser, server, `/runs/${runs.hashes[0]}`);
  const { page } = open;
  await drawn(page);
  await page.waitForSelector('.stream:has-text("Live")');
  await server.stop();
  await page.waitForSelector('.stream:has-text("Offline")');
  await page.click('button[aria-label="Actions for the run"]');
  await page.click('[role=menuitem]:text-is("Archive"):visible');
  await page.waitForSelector('.toast:has-text("ArchiveBatch")');
  // Times were not read before.
  await page.getByRole('combobox', { name: 'X axis' }).selectOption({ label: 'Time' });
  await page.waitForSelector('.toast:has-text("Buckets")');
  await eventually('no chart has a place on the axis', () =>
    page.evaluate(() =>
      [...document.querySelectorAll<HTMLCanvasElement>('canvas.base')].every(
        chart => chart.dataset.series === '0',
      ),
    ),
  );
  await server.run();
  await drawn(page);
  await page.waitForSelector('.toast:has-text("Buckets")', { state: 'detached' });
  await open.quiet();
  expect(await page.locator('.toast:has-text("ArchiveBatch") button:text-is("Retry")').count()).toBe(1);
  expect(await page.locator('.archived').count()).toBe(0);
  await page.context().close();
});

test.each([
  ['page', () => '/runs', 'nav a[aria-label="Params"]', 'svg[aria-label^="Parallel coordinates"]'],
  ['tab', () => `/runs/${runs.hashes[0]}`, '[data-tab=params]', '[role=table][aria-label=Params]'],
  [
    'part of a comparison',
    () => `/compare?runs=${runs.hashes.slice(0, 2).join()}`,
    '[data-tab=charts]',
    'canvas.base',
  ],
])(
  'a %s whose code cannot be loaded is shown as soon as the server is back',
  async (_, path, link, shown) => {
    const open = await Visit.open(browser, server, path());
    const { page } = open;
    const says = (state: string): Promise<boolean> =>
      eventually(state, async () => (await page.textContent('.stream'))?.trim() === state);
    await says('Live');
    await server.stop();
    await says('Offline');
    await page.click(link);
    await page.waitForSelector('[role=alert]:has-text("The server cannot be reached")');
    await server.run();
    await page.waitForSelector(shown);
    await says('Live');
    await page.context().close();
  },
);

test('a page whose code can never be loaded says so, and does not load the document again', async () => {
  const open = await Visit.open(browser, server, '/runs');
  const { page } = open;
  await page.route('**/assets/ParamsExplorer-*.js', route => route.abort());
  const failed = '[role=alert]:has-text("The server cannot be reached")';
  // The stream opens after the code has failed.
  await page.route('**/*.RunService/Watch', async route => {
    await page.waitForSelector(failed);
    await route.continue();
  });
  let documents = 0;
  page.on('request', request => (documents += Number(request.isNavigationRequest())));
  await page.goto(new URL('/params', page.url()).href);
  await page.waitForSelector(failed);
  await eventually('Live', async () => (await page.textContent('.stream'))?.trim() === 'Live');
  await open.quiet();
  expect(documents).toBe(1);
  await page.context().close();
});

test('the lines of many runs are in one chart, in the colors of the runs', async () => {
  await visit('/metrics?q=run.hparams.optimizer&m=loss', async visit => {
    const { page } = visit;
    await drawn(page);
    expect(await page.locator('section h2').allTextContents()).toEqual(['loss']);
    await visit.quiet();
    // Another width of the chart is another read of all of them.
    const reads = visit.requests(SeriesService.method.buckets);
    expect(reads.map(({ runs }) => runs.length)).toEqual(reads.map(() => 50));
    const box = (await page.locator('.pointer').first().boundingBox())!;
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await page.waitForSelector('.tooltip p:has-text("more")');
  });
});

test('code of a dialog that cannot be loaded says so', async () => {
  const open = await Visit.open(browser, server, `/runs/${runs.hashes[0]}`);
  const { page } = open;
  await page.route('**/assets/RunActions-*.js', route => route.abort());
  await page.click('button[aria-label="Add a tag"]');
  await page.waitForSelector('.toast:has-text("The server cannot be reached") button:text-is("Retry")');
  await page.context().close();
});

test.each([
  '',
  '?by=param:hparams.optimizer&stroke=param:hparams.batch_size&chart=experiment&x=metric&xm=grad_norm&from=1&to=2',
])('all settings of charts are in two lines above the list of runs, %s', async query => {
  await visit(
    `/metrics${query}`,
    async visit => {
      const { page } = visit;
      await page.waitForSelector('canvas.base');
      const toolbar = (await page.locator('.toolbar').boundingBox())!;
      const list = (await page.locator('aside').boundingBox())!;
      expect(toolbar.height).toBeLessThan(100);
      expect(toolbar.x + toolbar.width).toBe(list.x + list.width);
      expect(list.y).toBeGreaterThanOrEqual(toolbar.y + toolbar.height);
      await visit.shot(`metrics-toolbar-${query.length}`);
    },
    { width: 1280, height: 800 },
  );
});

test('a phone has charts without the list of runs', async () => {
  await visit(
    '/metrics',
    async ({ page }) => {
      await drawn(page);
      const parts = [page.getByText('List', { exact: true }), page.locator('.query kbd')];
      for (const part of parts) await part.waitFor();
      await page.setViewportSize({ width: 390, height: 844 });
      for (const part of parts) await part.waitFor({ state: 'hidden' });
    },
    { width: 1280, height: 800 },
  );
});

test('runs are selected by range, and compared', async () => {
  await visit('/runs?q=run.hparams.batch_size%20and%20not%20run.active', async visit => {
    const { page } = visit;
    const boxes = page.locator('[role=row] input[type=checkbox]');
    await boxes.nth(2).click();
    await boxes.nth(5).click({ modifiers: ['Shift'] });
    await boxes.nth(4).click();
    await page.click('button:has-text("Compare 3")');
    await page.waitForURL(/compare\?runs=/);
    await page.waitForSelector('[role=rowheader]:has-text("hparams.lr")');
    const best = page.locator('.row', { has: page.getByRole('button', { name: 'loss val', exact: true }) });
    const losses = (await best.locator('[role=cell]').allTextContents()).map(text => Number.parseFloat(text));
    expect(Number.parseFloat((await best.locator('.best').textContent()) ?? '')).toBe(Math.min(...losses));
    expect(await page.locator('.head a').count()).toBe(3);
    await visit.shot('compare-light');
    expect(await findings(page)).toEqual([]);
    const background = (): Promise<string> =>
      page.evaluate(() => getComputedStyle(document.body.querySelector('nav')!).backgroundColor);
    const light = await background();
    await page.keyboard.press('t');
    expect(await background()).not.toBe(light);
    await page.click('[role=tab]:has-text("Charts")');
    await drawn(page);
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
    const values = (await row.locator('[role=cell]').allTextContents()).map(text => Number.parseFloat(text));
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
    await drawn(page);
    const count = await page.textContent('[role=tab]:has-text("Charts") .weak');
    expect(Number(count?.replace(/\D/g, ''))).toBeGreaterThan(1_000);
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

test('a thousand charts are a dozen elements, and those that leave the screen are not read', async () => {
  await visit(`/runs/${runs.wide}`, async ({ page, calls }) => {
    await drawn(page);
    expect(await page.locator('canvas.base').count()).toBeLessThan(40);
    await page.locator('.body .scroller').evaluate(element => element.scrollTo(0, 60_000));
    await drawn(page);
    expect(calls.filter(call => call === 'SeriesService/Buckets').length).toBeLessThan(100);
    await page.fill('input[type=search]', '/layer99.weight[01]$/');
    await eventually(
      'charts are filtered',
      async () => (await page.locator('section h2').allTextContents()).length === 2,
    );
  });
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
