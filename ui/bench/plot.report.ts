/** Prints the figures of the renderer next to uPlot, in headless Chromium without a graphics card. */
import { join } from 'node:path';

import { createServer } from 'vite';
import { test } from 'vitest';

import { launch } from '../tests/harness.ts';

test('renderer', async () => {
  const vite = await createServer({
    root: join(import.meta.dirname, '..'),
    logLevel: 'error',
    server: { port: 0 },
  });
  await vite.listen();
  const browser = await launch();
  try {
    const page = await browser.newPage({ viewport: { width: 1100, height: 800 } });
    await page.goto(`${vite.resolvedUrls?.local[0]}bench/plot.html`);
    await page.waitForFunction(() => 'report' in globalThis);
    const text = await page.evaluate(async () => {
      const bench = globalThis as unknown as { report: () => Promise<never>; table: (rows: never) => string };
      return bench.table(await bench.report());
    });
    console.info(`\n${text}`);
  } finally {
    await browser.close();
    await vite.close();
  }
});
