/** Charts as a person uses them: their lines, zooms, legends and files. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { SeriesService } from '../src/gen/matyan/series/v1/series_pb.ts';
import { ownPlace, PALETTE } from '../src/plot/palette.ts';
import {
  allDrawn,
  eventually,
  findings,
  held,
  savedChart,
  Site,
  type Visit,
  type ProjectRuns,
  type VisitOptions,
} from './harness.ts';

let site: Site;
let runs: ProjectRuns;

beforeAll(async () => {
  site = await Site.open();
  ({ runs } = site);
});

afterAll(() => site?.close());

function visit<T>(
  path: string,
  use: (visit: Visit) => Promise<T>,
  options?: VisitOptions,
): Promise<T> {
  return site.visit(path, use, options);
}

test('a chart shows the spike of one point, zooms by drag, and back undoes it', async () => {
  await visit(`/runs/${runs.spike}`, async visit => {
    const { page } = visit;
    await allDrawn(page);
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
      }, PALETTE[ownPlace(runs.spike)]!.light);
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
    await allDrawn(page);
    await visit.shot('zoomed');
    await page.goBack();
    await page.waitForURL(url => !url.search.includes('from='));
  });
});

test.each([3, 9, 40])(
  'the legend of a chart of %d runs is one row without overlaps',
  async count => {
    const ids = runs.hashes.slice(0, count).map(id => JSON.stringify(id));
    const q = encodeURIComponent(`run.hash in (${ids.join(', ')})`);
    await visit(`/metrics?q=${q}&m=grad`, async visit => {
      await allDrawn(visit.page);
      await visit.shot(`legend-${count}`);
      const boxes = await visit.page.locator('.legend li').evaluateAll(items =>
        items.map(item => {
          const { left, right, top } = item.getBoundingClientRect();
          const end = Math.max(
            ...[...item.children].map(child => child.getBoundingClientRect().right),
            left,
          );
          return { left, right, top, end };
        }),
      );
      for (const [at, { left, right, top, end }] of boxes.entries()) {
        expect(end).toBeLessThanOrEqual(right + 0.5);
        expect(left).toBeGreaterThanOrEqual(boxes[at - 1]?.right ?? 0);
        expect(top).toBe(boxes[0]?.top);
      }
    });
  },
);

test('the hover is shown on all charts, without drawing them again', async () => {
  await visit(`/runs/${runs.hashes[5]}`, async visit => {
    const { page } = visit;
    await allDrawn(page);
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
    await allDrawn(page);
    const save = (kind: 'PNG' | 'SVG' | 'CSV'): Promise<Buffer> => savedChart(page, 'signal', kind);
    const color = PALETTE[ownPlace(runs.spike)]!.light;
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
    await allDrawn(page);
    const svg = (await savedChart(page, 'odd values', 'SVG')).toString();
    const color = PALETTE[ownPlace(runs.strange)]!.light;
    const triangles = svg.match(new RegExp(`<polygon [^>]*fill="${color}"/>`, 'g')) ?? [];
    const cross = /<path d="(M[\d.]+ [\d.]+h0L[\d.]+ [\d.]+){2}"[^>]*>/g;
    // Twelve of the 60 steps have another value; three of the twelve values are finite.
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

test.each(['light', 'dark'] as const)('a picture names its lines, %s', async theme => {
  const ids = runs.hashes.slice(0, 3);
  const q = encodeURIComponent(`run.hash in (${ids.map(id => JSON.stringify(id)).join(', ')})`);
  await visit(
    `/metrics?q=${q}&m=/^grad_norm$/`,
    async visit => {
      const { page } = visit;
      await allDrawn(page);
      const svg = (await savedChart(page, 'grad_norm', 'SVG', true)).toString();
      const texts = [...svg.matchAll(/<text [^>]*>([^<]*)</g)].map(([, text]) => text);
      expect(texts).toContain('grad_norm');
      expect(texts).toContain('step');
      for (const name of ['vit-small / trial 00', 'resnet50 sweep 01', 'resnet50 sweep 02'])
        expect(texts).toContain(name);
      // A paper is white, whatever the theme of the page is.
      expect(svg).toContain('fill="rgb(255, 255, 255)"');
      expect(svg).toContain(PALETTE[ownPlace(ids[0]!)]!.light);
      await page.click('button[aria-label="Actions for grad_norm"]');
      await page.locator('[role=menuitem]:has-text("Save as a picture"):visible').press('Enter');
      const dialog = page.getByRole('dialog', { name: 'Picture of grad_norm' });
      await dialog.getByRole('combobox', { name: 'Colors' }).selectOption('dark');
      await dialog.getByRole('textbox', { name: 'Title' }).fill('Norm of the gradient');
      await visit.shot(`chart-picture-${theme}`);
      expect(await findings(page)).toEqual([]);
    },
    { theme },
  );
});

test('a chart that waits for its points is not shown as empty', async () => {
  await visit(`/runs/${runs.hashes[5]}?tab=overview`, async visit => {
    const { page } = visit;
    const release = await held(page, 'SeriesService/Buckets');
    await page.getByRole('tab', { name: /^Metrics/ }).click();
    const chart = page.locator('section[aria-label=loss]');
    await chart.locator('.waiting svg').waitFor();
    await visit.shot('chart-waiting');
    expect(await findings(page)).toEqual([]);
    await release();
    await chart.locator('.waiting').waitFor({ state: 'detached' });
  });
});

test('the legend has the ends of names, and all lines on request', async () => {
  await visit('/metrics?m=/^grad_norm$/', async visit => {
    const { page } = visit;
    await allDrawn(page);
    const more = page.getByRole('button', { name: /^\d+ lines of grad_norm$/ });
    await more.click();
    const items = page.getByRole('menuitem', { name: /sweep|trial/ });
    await items.first().waitFor();
    expect(await items.count()).toBeGreaterThan(12);
    await visit.shot('legend-all');
    expect(await findings(page)).toEqual([]);
    const name = (await items.first().textContent())!.trim();
    await items.first().press('Enter');
    await page.getByRole('heading', { name, level: 1 }).waitFor();
  });
});

test('groups in the menu of a legend lead nowhere, and say so', async () => {
  const path = '/metrics?m=/^grad_norm$/&q=run.hparams.lr&by=param:hparams.lr';
  await visit(path, async ({ page }) => {
    await allDrawn(page);
    await page.getByRole('button', { name: /^\d+ lines of grad_norm$/ }).press('Enter');
    const items = page.getByRole('menuitem', { name: /\(1\)$/ });
    await items.first().waitFor();
    const disabled = page.locator('[role=menuitem][aria-disabled=true]');
    expect(await disabled.count()).toBe(await items.count());
    const before = page.url();
    await items.first().press('Enter');
    expect(page.url()).toBe(before);
    expect(await items.first().isVisible()).toBe(true);
    expect(await findings(page)).toEqual([]);
  });
});

test('names in legends are stops of the tab key where no list leads to the runs', async () => {
  const ids = runs.hashes.slice(0, 3).map(id => JSON.stringify(id));
  const q = encodeURIComponent(`run.hash in (${ids.join(', ')})`);
  await visit(`/metrics?q=${q}&m=/^grad_norm$/`, async ({ page }) => {
    const stopsAre = (expected: number): Promise<boolean> =>
      eventually(`all have ${expected}`, async () => {
        const names = await page.locator('.legend a').all();
        const stops = await Promise.all(names.map(name => name.getAttribute('tabindex')));
        return stops.length === 3 && stops.every(stop => Number(stop) === expected);
      });
    const list = page.getByRole('complementary', { name: 'List of runs' });
    await list.waitFor();
    await stopsAre(-1);
    await page.getByRole('checkbox', { name: 'List' }).uncheck();
    await stopsAre(0);
    await page.getByRole('checkbox', { name: 'List' }).check();
    await list.waitFor();
    await stopsAre(-1);
    // There is no room for the list.
    await page.setViewportSize({ width: 900, height: 900 });
    await list.waitFor({ state: 'hidden' });
    await stopsAre(0);
  });
});

test('a chart fills the screen on request', async () => {
  await visit(`/runs/${runs.hashes[5]}`, async ({ page }) => {
    await allDrawn(page);
    const card = page.locator('section[aria-label=loss]');
    const before = (await card.boundingBox())!;
    await page.click('button[aria-label="Actions for loss"]');
    await page.click('[role=menuitem]:has-text("Full screen"):visible');
    await page.waitForFunction(
      () => document.fullscreenElement?.getAttribute('aria-label') === 'loss',
    );
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
    await eventually(
      'it is as before',
      async () => (await card.boundingBox())!.width === before.width,
    );
  });
});

test('a zoomed chart keeps its line until the finer one has arrived', async () => {
  await visit(`/runs/${runs.spike}`, async visit => {
    const { page } = visit;
    await allDrawn(page);
    await visit.quiet();
    const canvas = page.locator('canvas.base').first();
    const draws = async (): Promise<number> => Number(await canvas.getAttribute('data-draws'));
    /** The share of the columns of pixels that have a part of the line. */
    const filled = (): Promise<number> =>
      canvas.evaluate((canvas, color) => {
        const { width, height } = canvas as HTMLCanvasElement;
        const { data } = (canvas as HTMLCanvasElement)
          .getContext('2d')!
          .getImageData(0, 0, width, height);
        const [red, green, blue] = [1, 3, 5].map(at =>
          Number.parseInt(color.slice(at, at + 2), 16),
        );
        const found = new Set<number>();
        const isNear = (at: number, part = 0): boolean => Math.abs((data[at] ?? 0) - part) < 8;
        for (let at = 0; at < data.length; at += 4)
          if (
            isNear(at, red) &&
            isNear(at + 1, green) &&
            isNear(at + 2, blue) &&
            data[at + 3]! > 90
          )
            found.add((at / 4) % width);
        return found.size / width;
      }, PALETTE[ownPlace(runs.spike)]!.light);
    const whole = await filled();
    expect(whole).toBeGreaterThan(0.8);
    const release = await held(page, 'SeriesService/Buckets');
    const before = await draws();
    const reads = visit.requests(SeriesService.method.buckets).length;
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

/** Columns of pixels of a PNG that have a color, within the uppermost rows. */
async function coloredColumns(
  page: Page,
  png: Buffer,
  color: string,
  rows = Infinity,
): Promise<number[]> {
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

test('the lines of many runs are in one chart, in the colors of the runs', async () => {
  await visit('/metrics?q=run.hparams.optimizer&m=loss', async visit => {
    const { page } = visit;
    await allDrawn(page);
    expect(await page.locator('section h2').allTextContents()).toEqual(['loss']);
    await visit.quiet();
    // Another width of the chart is another read of all 50 runs.
    const reads = visit.requests(SeriesService.method.buckets);
    expect(reads.map(({ runs }) => runs.length)).toEqual(reads.map(() => 50));
    const box = (await page.locator('.pointer').first().boundingBox())!;
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await page.waitForSelector('.tooltip p:has-text("more")');
  });
});

test.each([
  '',
  '?by=param:hparams.optimizer&stroke=param:hparams.batch_size&chart=experiment&x=metric&xm=grad_norm&from=1&to=2',
])(
  'the settings of charts are one line above the list of runs, whose place charts do not change, %s',
  async query => {
    await visit(
      `/metrics${query}`,
      async visit => {
        const { page } = visit;
        const before = (await page.locator('.toolbar').boundingBox())!;
        await page.waitForSelector('canvas.base');
        await page.getByRole('combobox', { name: 'Color by' }).waitFor();
        const toolbar = (await page.locator('.toolbar').boundingBox())!;
        const list = (await page.locator('aside').boundingBox())!;
        expect(toolbar.height).toBeLessThan(60);
        expect(toolbar.height).toBe(before.height);
        const hidden = await page
          .locator('.toolbar')
          .evaluate(one => one.scrollWidth - one.clientWidth);
        expect(hidden).toBe(0);
        expect(toolbar.x + toolbar.width).toBe(list.x + list.width);
        expect(list.y).toBeGreaterThanOrEqual(toolbar.y + toolbar.height);
        await visit.shot(`metrics-toolbar-${query.length}`);
      },
      { width: 1280, height: 800 },
    );
  },
);

test('a phone has charts without the list of runs', async () => {
  await visit(
    '/metrics',
    async ({ page }) => {
      await allDrawn(page);
      const parts = [page.getByText('List', { exact: true }), page.locator('.query kbd')];
      for (const part of parts) await part.waitFor();
      await page.setViewportSize({ width: 390, height: 844 });
      for (const part of parts) await part.waitFor({ state: 'hidden' });
    },
    { width: 1280, height: 800 },
  );
});

test('a thousand charts are a dozen elements, and those that leave the screen are not read', async () => {
  await visit(`/runs/${runs.wide}?fold=open`, async ({ page, calls }) => {
    await allDrawn(page);
    expect(await page.locator('canvas.base').count()).toBeLessThan(40);
    await page.locator('.body .scroller').evaluate(element => element.scrollTo(0, 60_000));
    await allDrawn(page);
    expect(calls.filter(call => call === 'SeriesService/Buckets').length).toBeLessThan(100);
    await page.fill('input[type=search]', '/layer99.weight[01]$/');
    await eventually(
      'charts are filtered',
      async () => (await page.locator('section h2').allTextContents()).length === 2,
    );
  });
});
