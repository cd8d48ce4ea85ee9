/** A server that is away, code that cannot be loaded, and many tabs at once. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import {
  eventually,
  allDrawn,
  Site,
  Visit,
  type Project,
  type ProjectRuns,
  type Server,
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

async function rowCount(page: Page): Promise<number> {
  return Number(await page.locator('[role=table]').first().getAttribute('aria-rowcount')) - 1;
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
      tabs.map(({ page }) =>
        page.waitForSelector(`.legend b:text-is("${value}")`, { state: 'attached' }),
      ),
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
  await eventually('another tab reads', () =>
    tabs.some(({ calls }) => calls.includes('RunService/Watch')),
  );
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
  await allDrawn(page);
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
  await allDrawn(page);
  await page.waitForSelector('.toast:has-text("Buckets")', { state: 'detached' });
  await open.quiet();
  expect(
    await page.locator('.toast:has-text("ArchiveBatch") button:text-is("Retry")').count(),
  ).toBe(1);
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

test('code of a dialog that cannot be loaded says so', async () => {
  const open = await Visit.open(browser, server, `/runs/${runs.hashes[0]}`);
  const { page } = open;
  await page.route('**/assets/RunActions-*.js', route => route.abort());
  await page.click('button[aria-label="Add a tag"]');
  await page.waitForSelector(
    '.toast:has-text("The server cannot be reached") button:text-is("Retry")',
  );
  await page.context().close();
});
