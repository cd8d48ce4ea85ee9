/** A list of a million rows in Chromium. */
import { join } from 'node:path';

import type { Browser, Page } from 'playwright-core';
import { createServer, type ViteDevServer } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, launch } from './harness.ts';

/** The handles that `List.svelte` offers to the tests. */
interface Rows {
  log: { started: number; aborted: number };
  reveal: (row: number) => void;
  /** Rows arrive no longer until `release`. */
  hold: () => void;
  release: () => void;
}

let browser: Browser;
let vite: ViteDevServer;
let page: Page;

beforeAll(async () => {
  vite = await createServer({
    root: join(import.meta.dirname, '..'),
    logLevel: 'error',
    server: { port: 0 },
  });
  await vite.listen();
  browser = await launch();
  page = await browser.newPage({ viewport: { width: 600, height: 680 } });
  await page.goto(`${vite.resolvedUrls?.local[0]}tests/pages/list.html`);
  await shows('row 0');
});

afterAll(async () => {
  await browser?.close();
  await vite?.close();
});

async function shows(text: string): Promise<void> {
  await page.waitForSelector(`.row:text-is("${text}")`);
}

/** Number of the first row in view, and its distance from the top. */
async function top(): Promise<[row: number, y: number]> {
  return page.evaluate(() => {
    const rows = [...document.querySelectorAll<HTMLElement>('.row')];
    const first = rows.find(row => row.getBoundingClientRect().bottom > 0);
    // Between a scroll and the next frame, all rows may be above the view.
    return first ? [Number(first.dataset.row), first.getBoundingClientRect().top] : [-1, 0];
  });
}

test('the wheel moves by exactly its distance', async () => {
  await page.mouse.move(300, 300);
  for (const distance of [100, 34, 34, 340]) await page.mouse.wheel(0, distance);
  await eventually('the list has moved by 508 pixels', async () => {
    const [row, y] = await top();
    return Math.abs(row * 34 - y - 508) < 0.5;
  });
  await shows('row 20');
});

test('the scroll bar reaches every part, and the last row', async () => {
  const scrollTo = (part: number): Promise<void> =>
    page.locator('.scroller').evaluate((element, part) => {
      element.scrollTop = part * (element.scrollHeight - element.clientHeight);
    }, part);
  await scrollTo(0.5);
  await eventually('the middle is shown', async () => Math.abs((await top())[0] - 500_000) < 30);
  await scrollTo(1);
  await shows('row 999999');
  expect((await top())[0]).toBe(999_980);
  expect(await page.locator('.row').count()).toBeLessThan(60);
});

test('a row is revealed with the least movement', async () => {
  const reveal = (row: number): Promise<void> =>
    page.evaluate(row => (globalThis as unknown as Rows).reveal(row), row);
  await reveal(123_456);
  await shows('row 123456');
  expect((await top())[0]).toBe(123_456);
  await reveal(123_470);
  expect((await top())[0]).toBe(123_456);
  await reveal(123_476);
  await eventually('the row is in view', async () => (await top())[0] === 123_457);
});

test('pages that are only passed are aborted', async () => {
  await page.evaluate(() => (globalThis as unknown as Rows).hold());
  await page.locator('.scroller').evaluate(async element => {
    for (let at = 0; at < 60; at++) {
      element.scrollTop = at * 150_000;
      await new Promise(requestAnimationFrame);
    }
  });
  await page.evaluate(() => (globalThis as unknown as Rows).release());
  await eventually(
    'rows are shown',
    async () => (await page.locator('.row:text-is("…")').count()) === 0,
  );
  const { started, aborted } = await page.evaluate(() => (globalThis as unknown as Rows).log);
  expect(aborted).toBeGreaterThan(20);
  expect(started - aborted).toBeLessThan(60);
});
