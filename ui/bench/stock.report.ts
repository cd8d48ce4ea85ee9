/** Prints what pages of this UI and of Aim's cost in the same Chromium, on the same project and server. */
import { existsSync } from 'node:fs';

import type { Browser } from 'playwright-core';
import { test } from 'vitest';

import { launch, Server } from '../tests/harness.ts';
import { runId, Writer } from './generate.ts';
import { opened } from './opening.ts';
import { table, type Row } from './report.ts';

/** The directory of Aim's UI, which `make ui` prints. */
const BUNDLE = process.env.MATYAN_UI_BUNDLE ?? '';
const RUNS = Number(process.env.MATYAN_RUNS ?? 100_000);
const CHARTS = 50;
const STEPS = 500;
/** The run after the last generated one. */
const CHARTED = RUNS;
const ROUNDS = 5;
const VIEW = { width: 1_400, height: 1_000 };
/** So tall that all charts are in view: both UIs load no others. */
const TALL = { ...VIEW, height: 14_000 };

interface Pages {
  name: string;
  /** Without it the server has its own UI. */
  folder?: string;
  /** Path, and what is there as often as the number says when the page is shown. */
  table: [path: string, selector: string, count: number];
  charts: [path: string, selector: string, count: number];
}

const OURS: Pages = {
  name: 'Matyan',
  table: ['/runs', '.table .window .row a', 10],
  charts: [`/runs/${runId(CHARTED)}`, 'canvas.base[data-series="1"]', CHARTS],
};
const AIMS: Pages = {
  name: 'Aim',
  folder: BUNDLE,
  table: ['/runs', '.RunsTable .Table__cell a[href*="/runs/"]', 10],
  charts: [
    `/runs/${runId(CHARTED)}/metrics`,
    '.RunDetailMetricsTab__container .LineChart path.Line',
    CHARTS,
  ],
};

async function writeCharted(writer: Writer): Promise<void> {
  const series = Array.from({ length: CHARTS }, (_, number) => ({ name: `weight${number}` }));
  const numbers = series.map((_, number) => number);
  const points = Array.from({ length: STEPS }, (_, step) => ({
    series: numbers,
    values: numbers.map(number => Math.sin((step * (number + 1)) / 300)),
    steps: numbers.map(() => BigInt(step)),
  }));
  const run = [{ kind: { case: 'createRun' as const, value: {} } }];
  await writer.publish(CHARTED, { events: run, series, points });
}

async function measured(browser: Browser, { addresses }: Server, pages: Pages): Promise<Row[]> {
  const context = await browser.newContext({ viewport: VIEW });
  const page = await context.newPage();
  // Aim's UI also asks other servers for fonts and news.
  await page.route(
    url => url.origin !== addresses.query,
    route => route.abort(),
  );
  const session = await context.newCDPSession(page);
  await session.send('Network.enable');
  await session.send('Performance.enable');
  const rows: Row[] = [];
  for (const [what, [path, selector, count], view] of [
    ['table of runs', pages.table, VIEW],
    [`${CHARTS} charts of a run`, pages.charts, TALL],
  ] as const) {
    await page.setViewportSize(view);
    const wanted = { selector, count };
    const ready = async (): Promise<void> =>
      void (await page.waitForFunction(
        ({ selector, count }) => document.querySelectorAll(selector).length >= count,
        wanted,
        { timeout: 300_000 },
      ));
    rows.push(await opened(session, `${what}, ${pages.name}`, page, addresses.query + path, ready));
  }
  await context.close();
  return rows;
}

test.skipIf(!existsSync(BUNDLE))('pages of both UIs', async () => {
  const [server, browser] = await Promise.all([Server.start(), launch()]);
  try {
    const writer = new Writer(server);
    await writer.runs(RUNS);
    await writeCharted(writer);
    const rows: Row[] = [];
    for (let round = 0; round < ROUNDS; round++)
      for (const pages of [OURS, AIMS]) {
        await server.stop();
        server.ui = pages.folder;
        await server.run();
        rows.push(...(await measured(browser, server, pages)));
      }
    rows.sort(([a], [b]) => a.localeCompare(b));
    console.info(`\n${RUNS} runs, until a page is shown, with an empty cache:`);
    console.info(table(['', 'ms', 'kB', 'heap MB'], rows));
  } finally {
    await browser.close();
    await server.remove();
  }
});
