/**
 * Prints what large runs cost in Chromium: 50 runs of 1,000 series, one of 10,000, and one series of ten million points.
 * One of these points is a spike, which every zoom must show.
 */
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';

import { launch, Server, Visit } from '../tests/harness.ts';
import { POINTS, runId, SPIKE, writeLong, writeWide, Writer } from './generate.ts';
import { opened } from './opening.ts';
import { table, type Row } from './report.ts';

const RUNS = 50;
const SERIES = 1_000;
const WIDE_SERIES = 10_000;
const WIDE = RUNS;
const LONG = RUNS + 1;
/** In view at once, as on a very tall screen. */
const CHARTS = 50;

/** Resolves when as many charts are drawn, all with their series. */
async function drawn(page: Page, count = 1): Promise<void> {
  await page.waitForFunction(count => {
    const charts = [...document.querySelectorAll<HTMLCanvasElement>('canvas.base')];
    return (
      charts.length >= count &&
      charts.every(({ dataset }) => dataset.draws && Number(dataset.series) > 0)
    );
  }, count);
}

/** Whether something is drawn in the upper fifth of the first chart, where only the spike is. */
function isSpikeShown(page: Page): Promise<boolean> {
  return page
    .locator('canvas.base')
    .first()
    .evaluate(element => {
      const { width, height } = element as HTMLCanvasElement;
      const context = (element as HTMLCanvasElement).getContext('2d')!;
      const { data } = context.getImageData(0, 0, width, Math.round(height * 0.2));
      return data.some((blue, at) => at % 4 === 2 && blue > 180 && (data[at - 2] ?? 0) < 60);
    });
}

test('large runs', async () => {
  const [server, browser] = await Promise.all([Server.start(), launch()]);
  try {
    const writer = new Writer(server);
    await writer.runs(RUNS + 2);
    for (let run = 0; run < RUNS; run++) await writeWide(writer, run, SERIES);
    await writeWide(writer, WIDE, WIDE_SERIES);
    const start = performance.now();
    await writeLong(writer, LONG);
    console.info(`${POINTS} points are written after ${Math.round(performance.now() - start)} ms`);
    const visit = await Visit.open(browser, server, '/tags', { height: 1_000 });
    const { page, base } = visit;
    const session = await page.context().newCDPSession(page);
    await session.send('Network.enable');
    await session.send('Performance.enable');
    const long = `${base}/runs/${runId(LONG)}?m=signal`;
    await page.goto(long);
    await page.waitForFunction(
      last => document.querySelector('.legend b')?.getAttribute('title') === last,
      String(Math.sin((POINTS - 1) / 9_000)),
    );
    const spikes: Row[] = [];
    for (let width = POINTS; width >= 10; width /= 8) {
      const from = Math.max(0, SPIKE - 0.4 * width);
      const to = Math.min(POINTS - 1, SPIKE + 0.6 * width);
      const began = performance.now();
      await page.goto(`${long}&from=${Math.floor(from)}&to=${Math.ceil(to)}`);
      await drawn(page);
      spikes.push([`${Math.ceil(to) - Math.floor(from)} steps`, performance.now() - began]);
      expect(await isSpikeShown(page), `the spike in ${width} steps`).toBe(true);
      if (spikes.length === 4) await visit.shot('scale-spike');
    }
    const rows: Row[] = [];
    const open = async (name: string, path: string, ready: () => Promise<void>): Promise<void> =>
      void rows.push(await opened(session, name, page, base + path, ready));
    const filled = async (): Promise<void> =>
      void (await page.waitForFunction(
        () => document.querySelectorAll('.table .window .row a').length > 9,
      ));
    await open('table of runs', '/runs', filled);
    await open('a run of 10,000 series', `/runs/${runId(WIDE)}`, () => drawn(page));
    await visit.shot('scale-wide');
    await open('50 runs of 1,000 series', '/metrics?q=run.name != "run 51"', () => drawn(page));
    await visit.shot('scale-runs');
    await page.setViewportSize({ width: 1_400, height: 5_400 });
    await open(`${CHARTS} charts of a run`, `/runs/${runId(0)}?m=layer`, () =>
      drawn(page, CHARTS - 4),
    );
    // Two in a row instead of three.
    await page.setViewportSize({ width: 1_400, height: 7_000 });
    await open(`${CHARTS} charts of ${RUNS} runs`, '/metrics?m=layer', () =>
      drawn(page, CHARTS - 4),
    );
    await visit.close();
    console.info(
      [
        `\nOne spike in ${POINTS} points, milliseconds until its chart is drawn:`,
        table(['', 'time'], spikes),
        '\nUntil a page is shown, with an empty cache:',
        table(['', 'ms', 'kB', 'heap MB'], rows),
      ].join('\n'),
    );
  } finally {
    await browser.close();
    await server.remove();
  }
});
