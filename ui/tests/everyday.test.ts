/** Everyday tasks, from a chart or a row to whatever people need next. */
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { encodeCbor, type CborState } from '../src/api/cbor_writer.ts';
import { AppService } from '../src/gen/matyan/apps/v1/apps_pb.ts';
import { OutcomeKind } from '../src/gen/matyan/common/v1/common_pb.ts';
import { DashboardService } from '../src/gen/matyan/dashboards/v1/dashboards_pb.ts';
import { drawn, eventually, findings, matchCount, publish, savedChart, Site } from './harness.ts';

const LARGE = 'Settings of this chart';

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

async function createDashboard(name: string, panel: CborState): Promise<string> {
  const transport = createGrpcWebTransport({ baseUrl: site.server.addresses.query });
  const { app } = await createClient(AppService, transport).create({
    type: 'dashboard',
    state: encodeCbor({ panels: [panel] }),
  });
  const dashboards = createClient(DashboardService, transport);
  const { dashboard } = await dashboards.create({ name, appId: app?.id ?? '' });
  return `/dashboards/${dashboard?.id}`;
}

/** Two finished runs whose results, params and readings of the machine differ. */
async function createRuns(word: string): Promise<string[]> {
  const ids = [0, 1].map(at => word.padEnd(23, '0') + at);
  for (const [at, id] of ids.entries()) {
    const params = { env: { host: `node-${at}` }, hparams: { lr: 0.001 * (at + 1) } };
    const names = ['system/gpu.0.power', 'speed', 'val/loss'];
    await publish(
      site.server,
      id,
      [
        { kind: { case: 'createRun', value: {} } },
        { kind: { case: 'setRunProperty', value: { name: `${word} ${at}` } } },
        { kind: { case: 'logParams', value: { value: encodeCbor(params) } } },
        {
          kind: { case: 'finishRun', value: { outcome: { kind: OutcomeKind.FINISHED } } },
        },
      ],
      {
        series: names.map(name => ({ name })),
        points: names.map((_, series) => ({
          series: [series, series],
          steps: [0n, 1n],
          values: [600 + at, 500 + at],
        })),
      },
    );
  }
  const query = `run.name.startswith("${word} ")`;
  await eventually('they are found', async () => (await matchCount(site.server, query)) === 2);
  return ids;
}

async function choose(page: Page, chart: string, title: string): Promise<void> {
  await page.getByRole('button', { name: `Actions for ${chart}`, exact: true }).click();
  await page.getByRole('menuitem', { name: title }).click();
}

/** Copies what a reader selects, and returns the text of the clipboard. */
async function copiedFrom(page: Page, value: Locator): Promise<string> {
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await value.evaluate(one => getSelection()!.selectAllChildren(one));
  await page.keyboard.press('Control+c');
  return eventually('it is copied', () => page.evaluate(() => navigator.clipboard.readText()));
}

test('columns follow the runs that are found, and are the same after a reload', async () => {
  const cases = [
    ['run.name == "five epochs"', 1, 'accuracy', 'grad_norm'],
    ['run.name == "one spike"', 1, 'signal', 'accuracy'],
    ['run.name.startswith("vit-small")', 15, 'loss val', 'signal'],
  ] as const;
  await site.visit('/runs', async visit => {
    const { page } = visit;
    const titles = (): Promise<string[]> =>
      page.locator('[role=columnheader] > span, .sort > span').allTextContents();
    const field = page.getByLabel('Filter runs by a query');
    for (const [query, count, shown, hidden] of cases) {
      await field.fill(query);
      await field.press('Enter');
      const status = new RegExp(`^\\s*${count}\\s*$`);
      await page.locator('header [role=status]', { hasText: status }).waitFor();
      await eventually(`there is ${shown}`, async () => (await titles()).includes(shown));
      await visit.quiet();
      const before = await titles();
      expect(before).not.toContain(hidden);
      await page.reload();
      await page.waitForSelector('.window .name a');
      await eventually('the columns are known', async () => (await titles()).includes(shown));
      await visit.quiet();
      expect(await titles()).toEqual(before);
    }
  });
});

test('a double click on the title of a chart opens it large, with its controls', async () => {
  await site.visit('/metrics?m=/^loss$/', async visit => {
    const { page } = visit;
    await drawn(page, 'loss');
    await page.locator('section[aria-label=loss] h2').dblclick();
    const dialog = page.getByRole('dialog', { name: 'loss' });
    await dialog.getByRole('combobox', { name: 'X axis' }).waitFor();
    const canvas = dialog.locator('canvas.base');
    await eventually('it is drawn', async () => Number(await canvas.getAttribute('data-series')));
    await visit.shot('chart-large');
    expect(await findings(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
  });
});

test('the lines of one chart are thick, also in its picture and after a reload', async () => {
  const names = encodeURIComponent('/^(loss|accuracy)$/');
  await site.visit(`/metrics?m=${names}`, async ({ page }) => {
    await drawn(page, 'loss');
    await choose(page, 'loss', LARGE);
    const dialog = page.getByRole('dialog', { name: 'loss' });
    await dialog.getByRole('combobox', { name: 'Line width' }).selectOption('thick');
    await dialog.getByRole('button', { name: 'Use for this chart' }).click();
    await page.waitForURL(url => /line=thick/.test(url.searchParams.get('own') ?? ''));
    const isThick = async (name: string): Promise<boolean> => {
      await drawn(page, name);
      return (await savedChart(page, name, 'SVG')).toString().includes('stroke-width="3"');
    };
    expect(await isThick('loss')).toBe(true);
    expect(await isThick('accuracy')).toBe(false);
    await page.reload();
    expect(await isThick('loss')).toBe(true);
  });
});

test('a link to a chart opens it alone, with its range and its runs', async () => {
  await site.visit('/metrics?q=run.hparams.batch_size&from=2&to=6', async ({ page }) => {
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await drawn(page, 'loss');
    await choose(page, 'loss', 'Copy a link to this chart');
    await page.getByText('The link is copied.').waitFor();
    const link = await page.evaluate(() => navigator.clipboard.readText());
    await page.goto(link);
    await drawn(page, 'loss');
    expect(await page.locator('section.card canvas.base').count()).toBe(1);
    const { searchParams } = new URL(page.url());
    expect(['q', 'from', 'to'].map(name => searchParams.get(name))).toEqual([
      'run.hparams.batch_size',
      '2',
      '6',
    ]);
  });
});

test('a panel is resized by a drag of its corner, and the tab has the name of the dashboard', async () => {
  const panel = { kind: 'text', text: 'A note', width: '2', height: '3' };
  await site.visit(await createDashboard('Layout', panel), async ({ page }) => {
    const item = page.locator('.panels > li').first();
    await page.locator('.panels').getByText('A note').waitFor();
    await eventually('the tab has its name', async () =>
      (await page.title()).startsWith('Layout · '),
    );
    const { width, height } = (await item.boundingBox())!;
    const corner = (await page.locator('.panels .corner').first().boundingBox())!;
    const x = corner.x + corner.width / 2;
    const y = corner.y + corner.height / 2;
    const stored = page.waitForResponse(response => response.url().endsWith('AppService/Update'));
    await page.mouse.move(x, y);
    await page.mouse.down();
    // A column and a row more.
    await page.mouse.move(x + width / 2, y + height / 3, { steps: 6 });
    await page.mouse.up();
    await stored;
    const isLarger = async (): Promise<boolean> => {
      const style = (await item.getAttribute('style')) ?? '';
      return style.includes('span 3') && style.includes('span 4');
    };
    await eventually('it is wider and higher', isLarger);
    await page.reload();
    await page.locator('.panels').getByText('A note').waitFor();
    expect(await isLarger()).toBe(true);
  });
});

test('a panel keeps its runs on request, whatever its query finds later', async () => {
  const panel = { metric: 'loss', query: 'run.hparams.batch_size', runs: '3', width: '3' };
  await site.visit(await createDashboard('Kept', { ...panel, height: '4' }), async ({ page }) => {
    await page.getByRole('button', { name: 'Actions for panel loss' }).click();
    await page.getByRole('menuitem', { name: 'Edit' }).click();
    const dialog = page.getByRole('dialog', { name: 'Panel' });
    const keep = dialog.getByRole('button', { name: /^Keep these 3 runs/ });
    await keep.click();
    await keep.waitFor({ state: 'detached' });
    const query = await dialog
      .getByRole('textbox', { name: 'Filter runs by a query' })
      .inputValue();
    expect(query).toMatch(/^run\.hash in \["\w{24}"(, "\w{24}"){2}\]$/);
    await dialog.getByRole('button', { name: 'Save', exact: true }).click();
    await dialog.waitFor({ state: 'hidden' });
    const canvas = page.locator('.panels canvas.base');
    // The loss of each has two contexts; the live run has one.
    await eventually('their lines are drawn', async () => {
      const lines = Number(await canvas.getAttribute('data-series'));
      return lines === 6 || lines === 5;
    });
  });
});

test('the best run is among the first of a tooltip, below the line at the pointer', async () => {
  await site.visit('/metrics?m=/^loss$/', async ({ page }) => {
    await drawn(page, 'loss');
    const plot = page.locator('section[aria-label=loss] [role=application]');
    const box = (await plot.boundingBox())!;
    await page.mouse.click(box.x + box.width * 0.6, box.y + box.height * 0.3);
    const pinned = page.getByRole('dialog', { name: /^Values at step/ });
    await pinned.waitFor();
    const values = await pinned
      .locator('tbody td.value:nth-child(3)')
      .evaluateAll(all => all.map(one => Number(one.getAttribute('title'))));
    expect(values.length).toBeGreaterThan(50);
    expect(values.slice(0, 5)).toContain(Math.min(...values));
    // The other lines are in order.
    expect(values.slice(1)).toEqual(values.slice(1).toSorted((a, b) => a - b));
  });
});

test('numbers of the table are copied as Python reads them', async () => {
  const query = encodeURIComponent('run.name == "one spike"');
  await site.visit(`/runs?q=${query}&columns=metric:signal`, async ({ page }) => {
    const cell = page.locator('.window [role=cell].number .digits').first();
    await cell.waitFor();
    // The page shows the mathematical minus sign.
    expect(await cell.textContent()).toMatch(/^\u2212/);
    const text = await copiedFrom(page, cell);
    expect(text).toMatch(/^-[\d.]+$/);
    expect(Number(text)).toBeCloseTo(Number(await cell.getAttribute('title')), 4);
  });
  await site.visit('/runs?q=vit&columns=param:hparams.lr', async ({ page }) => {
    const cell = page.locator('.window [role=cell].number .digits').first();
    await cell.waitFor();
    const text = await copiedFrom(page, cell);
    const exact = Number(await cell.getAttribute('title'));
    expect(Math.abs(Number(text) / exact - 1)).toBeLessThan(1e-5);
  });
});

test('the images of a step are in one row, and distributions of all steps have one range', async () => {
  const studio = `/runs/${site.runs.studio}?tab=media`;
  await site.visit(studio, async ({ page }) => {
    await page.locator('.cards canvas[data-drawn]').nth(3).waitFor();
    const tops = await page
      .locator('.cards .object')
      .evaluateAll(all => all.slice(0, 4).map(one => one.getBoundingClientRect().top));
    expect(new Set(tops).size).toBe(1);
  });
  const ends = (at: number): Promise<string> =>
    site.visit(`${studio}&kind=distributions&at=${at}`, async ({ page }) => {
      const caption = page.locator('.cards figure figcaption').first();
      await caption.waitFor();
      await page.locator('.cards .object', { hasText: 'weights' }).first().waitFor();
      return (await caption.textContent()) ?? '';
    });
  const first = await ends(0);
  expect(first).toMatch(/\d/);
  expect(await ends(45)).toBe(first);
});

test('a comparison begins with results and what was tuned, and ends with the machine', async () => {
  const ids = await createRuns('c0de');
  await site.visit(`/compare?runs=${ids.join()}`, async visit => {
    const { page } = visit;
    await page.locator('[role=rowheader]', { hasText: 'val/loss' }).waitFor();
    const rows = page.locator('[role=rowheader]');
    const titles = (await rows.allTextContents()).map(title => title.trim());
    const wanted = ['val/loss', 'hparams.lr', 'env.host', 'speed', 'system/gpu.0.power'];
    expect(titles.filter(title => wanted.includes(title))).toEqual(wanted);
    // All of it is on the first screen.
    for (const row of await rows.all()) {
      const box = (await row.boundingBox())!;
      expect(box.y + box.height).toBeLessThan(900);
    }
    expect(await findings(page)).toEqual([]);
  });
});

test('metrics called system/… are under System, and a run has no tab without content', async () => {
  const [id = ''] = await createRuns('5e7');
  await site.visit(`/runs/${id}`, async ({ page }) => {
    const power = page.locator('section[aria-label="system/gpu.0.power"]');
    await page.locator('section[aria-label="val/loss"]').waitFor();
    expect(await power.count()).toBe(0);
    const tabs = page.getByRole('tab');
    await tabs.filter({ hasText: 'System' }).waitFor();
    const names = (await tabs.allTextContents()).join();
    for (const empty of ['Logs', 'Media', 'Terminal', 'Artifacts'])
      expect(names).not.toContain(empty);
    await tabs.filter({ hasText: 'System' }).click();
    await power.waitFor();
  });
});

test('the overview of a run that failed has the end of its terminal, and leads there', async () => {
  const id = 'bad'.padEnd(24, '0');
  const lines = ['Traceback (most recent call last):', 'OutOfMemoryError: CUDA out of memory'];
  await publish(site.server, id, [
    { kind: { case: 'createRun', value: {} } },
    { kind: { case: 'setRunProperty', value: { name: 'a run without memory' } } },
    ...lines.map((line, at) => ({
      kind: { case: 'logTerminalLine' as const, value: { line, step: BigInt(at) } },
    })),
    {
      kind: {
        case: 'finishRun',
        value: { outcome: { kind: OutcomeKind.FAILED, message: 'CUDA out of memory' } },
      },
    },
  ]);
  const query = 'run.name == "a run without memory"';
  await eventually('it is found', async () => (await matchCount(site.server, query)) === 1);
  await site.visit(`/runs/${id}?tab=overview`, async visit => {
    const { page } = visit;
    await page.locator('pre', { hasText: lines[1]! }).waitFor();
    await visit.shot('overview-failed');
    expect(await findings(page)).toEqual([]);
    await page.getByRole('link', { name: 'The end of the terminal' }).click();
    await page.waitForURL(/tab=terminal/);
    await page.getByText(lines[0]!).first().waitFor();
  });
});

test('the tabs of a browser are told apart by the query of their page', async () => {
  await site.visit('/runs?q=vit', async ({ page }) => {
    await eventually('the tab has it', async () => (await page.title()) === 'Runs · vit · Matyan');
    await page.getByRole('link', { name: 'Metrics', exact: true }).click();
    await eventually(
      'the next page has it',
      async () => (await page.title()) === 'Metrics · vit · Matyan',
    );
  });
});
