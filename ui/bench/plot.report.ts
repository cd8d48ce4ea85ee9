/** Prints the figures of the renderer next to uPlot and ECharts, in headless Chromium without a graphics card. */
import { join } from 'node:path';

import type { CDPSession, Page } from 'playwright-core';
import { createServer } from 'vite';
import { test } from 'vitest';

import { launch } from '../tests/harness.ts';
import type { ChartTimes, decoding, leave, measure } from './plot.ts';
import { table, type Row } from './report.ts';

interface Bench {
  SHAPES: [count: number, points: number][];
  LIBRARIES: object;
  measure: typeof measure;
  leave: typeof leave;
  decoding: typeof decoding;
}

/** Memory of the page after all garbage is collected, in bytes: objects, and the columns outside of the heap. */
async function memory(session: CDPSession): Promise<number> {
  for (let round = 0; round < 3; round++) await session.send('HeapProfiler.collectGarbage');
  const usage = (await session.send('Runtime.getHeapUsage')) as {
    usedSize: number;
    backingStorageSize?: number;
  };
  return usage.usedSize + (usage.backingStorageSize ?? 0);
}

async function charts(page: Page): Promise<Row[]> {
  const session = await page.context().newCDPSession(page);
  const [shapes, libraries] = await page.evaluate(() => {
    const { bench } = globalThis as unknown as { bench: Bench };
    return [bench.SHAPES, Object.keys(bench.LIBRARIES)] as const;
  });
  const rows: Row[] = [];
  for (const [count, points] of shapes)
    for (const library of libraries) {
      const given = [library, count, points] as const;
      const { draw, zoom, hover }: ChartTimes = await page.evaluate(
        all => (globalThis as unknown as { bench: Bench }).bench.measure(...all),
        given,
      );
      const before = await memory(session);
      await page.evaluate(
        all => (globalThis as unknown as { bench: Bench }).bench.leave(...all),
        given,
      );
      const bytes = (await memory(session)) - before;
      await page.evaluate(() => (globalThis as unknown as { bench: Bench }).bench.leave());
      rows.push([`${library} ${count} × ${points}`, ...draw, zoom[1], hover[1], bytes / 1e6]);
    }
  return rows;
}

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
    await page.waitForFunction(() => 'bench' in globalThis);
    const drawn = await charts(page);
    const decoded = await page.evaluate(() =>
      (globalThis as unknown as { bench: Bench }).bench.decoding(),
    );
    const rows = Object.entries(decoded).map(([name, times]): Row => [name, ...times]);
    console.info(
      [
        '\nUntil the pixels are there, in milliseconds; the memory that a chart keeps, in megabytes:',
        table(['', 'first draw', 'draw', 'best draw', 'zoom', 'hover', 'memory'], drawn),
        '\nDecoding 1000 × 500 buckets, in milliseconds:',
        table(['', 'first', 'median', 'best'], rows),
      ].join('\n'),
    );
  } finally {
    await browser.close();
    await vite.close();
  }
});
