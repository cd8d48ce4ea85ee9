/** Drawings of the renderer, read back pixel by pixel in Chromium. */
import { join } from 'node:path';

import type { Browser, Page } from 'playwright-core';
import { createServer, type ViteDevServer } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { launch } from './harness.ts';
import type { Probe } from './pages/plot.ts';

let browser: Browser;
let vite: ViteDevServer;
let page: Page;

const probe = (globalThis as unknown as { probe: Probe }).probe;

beforeAll(async () => {
  vite = await createServer({
    root: join(import.meta.dirname, '..'),
    logLevel: 'error',
    server: { port: 0 },
  });
  await vite.listen();
  browser = await launch();
  page = await browser.newPage();
  await page.goto(`${vite.resolvedUrls?.local[0]}tests/pages/plot.html`);
  await page.waitForFunction(() => 'probe' in globalThis);
});

afterAll(async () => {
  await browser?.close();
  await vite?.close();
});

test('one point of ten million is visible', async () => {
  const { redness, x, expected } = await page.evaluate(() =>
    probe.spikeRedness({ points: 10_000_000, spikeAt: 7_654_321 }),
  );
  expect(redness).toBeGreaterThan(200);
  // It is drawn at the end of its bucket, of about 16,000 steps.
  expect(Math.abs(x - expected)).toBeLessThan(3);
});

test('neither smoothing, nor other lines, nor a zoom, nor the density of the screen hides it', async () => {
  const scenes = await page.evaluate(() => {
    const scene = { points: 1_000_000, spikeAt: 123_456 };
    return [
      probe.spikeRedness({ ...scene, smoothing: 0.99 }),
      probe.spikeRedness({ ...scene, others: 200 }),
      probe.spikeRedness({ ...scene, ratio: 2 }),
      probe.spikeRedness({ ...scene, ratio: 1.25, others: 20 }),
      probe.spikeRedness({ ...scene, zoom: { low: 100_000, high: 200_000 } }),
    ];
  });
  for (const { redness } of scenes) expect(redness).toBeGreaterThan(60);
});

test('a hairline is one device pixel', async () => {
  const rows = await page.evaluate(() => [1, 1.5, 2, 3].map(ratio => probe.hairline(ratio).rows));
  expect(rows).toEqual([1, 1, 1, 1]);
});

test('a PNG has twice the pixels of the screen', async () => {
  expect(await page.evaluate(() => probe.pngSize({ points: 1_000, spikeAt: 5 }))).toEqual([
    1600, 600,
  ]);
});
