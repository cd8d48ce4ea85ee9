/** Prints how a table of 100,000 runs is used in Chromium: frames that are dropped, and times until rows are there. */
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';

import { launch, Server, Visit } from '../tests/harness.ts';
import { Writer } from './generate.ts';
import { table, type Row } from './report.ts';

const RUNS = Number(process.env.MATYAN_RUNS ?? 100_000);
const FRAMES = 600;
const JUMPS = 30;

const SCROLLER = '.table .scroller';

/** Scrolls by some pixels in each frame; returns the durations of the frames in milliseconds. */
async function scroll(page: Page, pixels: number): Promise<number[]> {
  return page.locator(SCROLLER).evaluate(
    (scroller, { pixels, frames }) =>
      new Promise<number[]>(resolve => {
        const durations: number[] = [];
        let last = performance.now();
        const step = (now: number): void => {
          durations.push(now - last);
          last = now;
          scroller.scrollTop += pixels;
          if (durations.length < frames) requestAnimationFrame(step);
          else resolve(durations.slice(1));
        };
        requestAnimationFrame(step);
      }),
    { pixels, frames: FRAMES },
  );
}

function frames(name: string, durations: readonly number[]): Row {
  const dropped = durations.reduce(
    (sum, ms) => sum + Math.max(0, Math.round((ms * 60) / 1000) - 1),
    0,
  );
  return [name, durations.length, dropped, Math.max(...durations)];
}

/** Waits until all rows in view have their values. */
async function filled(page: Page): Promise<void> {
  await page.waitForFunction(() => {
    const rows = document.querySelectorAll('.table .window .row');
    const busy = document.querySelector('.table[aria-busy=true]');
    return rows.length > 0 && !busy && !document.querySelector('.table .window .loading');
  });
}

async function timed(name: string, run: () => Promise<unknown>): Promise<Row> {
  const start = performance.now();
  await run();
  return [name, performance.now() - start];
}

/** Jumps to places all over the table, and waits each time; returns the median and the longest wait. */
async function jumps(page: Page): Promise<Row> {
  const times: number[] = [];
  for (let jump = 0; jump < JUMPS; jump++) {
    const start = performance.now();
    const place = ((jump * 7919) % 1009) / 1009;
    await page.locator(SCROLLER).evaluate((scroller, place) => {
      scroller.scrollTop = place * scroller.scrollHeight;
    }, place);
    await page.evaluate(
      () => new Promise(resolve => requestAnimationFrame(() => resolve(undefined))),
    );
    await filled(page);
    times.push(performance.now() - start);
  }
  const sorted = times.toSorted((a, b) => a - b);
  return [`${JUMPS} jumps: median, longest`, sorted[JUMPS >> 1] ?? NaN, sorted.at(-1) ?? NaN];
}

test('a table of many runs', async () => {
  const [server, browser] = await Promise.all([Server.start(), launch()]);
  try {
    const written = await timed(`write ${RUNS} runs, and find them`, () =>
      new Writer(server).runs(RUNS),
    );
    const visit = await Visit.open(browser, server, '/');
    const { page } = visit;
    const heading = (text: string) =>
      page.locator('[role=columnheader]', { hasText: text }).first();
    const times: Row[] = [written];
    times.push(
      await timed('open the table', async () => {
        await page.goto(`${visit.base}/runs`);
        await filled(page);
      }),
    );
    await visit.shot('runs-many');
    const scrolled = [
      frames('as a wheel does, 100 px', await scroll(page, 100)),
      frames('fast, 2,000 px', await scroll(page, 2_000)),
      frames('by the scroll bar, 50,000 px', await scroll(page, -50_000)),
    ];
    await filled(page);
    times.push(await jumps(page));
    times.push(
      await timed('select all', async () => {
        await page.getByRole('checkbox', { name: 'Select all runs' }).click();
        await page.getByRole('button', { name: /^Compare \d/ }).waitFor();
      }),
    );
    expect(await page.getByRole('button', { name: /^Compare \d/ }).textContent()).toMatch(
      /100.000|\d+/,
    );
    await page.getByRole('button', { name: 'Clear' }).click();
    for (const text of ['loss', 'Name', 'lr']) {
      times.push(
        await timed(`sort by ${text}`, async () => {
          await heading(text).locator('.sort').click();
          await page.waitForURL(/sort=/);
          await filled(page);
        }),
      );
    }
    times.push(
      await timed('group by optimizer', async () => {
        await page.goto(`${visit.base}/runs?by=param%3Ahparams.optimizer`);
        await page.getByRole('button', { expanded: false }).filter({ hasText: 'adam' }).waitFor();
      }),
    );
    times.push(
      await timed('open a group', async () => {
        await page.getByRole('button', { expanded: false }).filter({ hasText: 'adam' }).click();
        await page.locator('.table .window a').first().waitFor();
        await filled(page);
      }),
    );
    scrolled.push(frames('in a group, 2,000 px', await scroll(page, 2_000)));
    await filled(page);
    await visit.shot('runs-many-grouped');
    await visit.close();
    console.info(
      [
        `\n${RUNS} runs, in milliseconds:`,
        table(['', 'time'], times),
        '\nScrolling, at 60 frames per second:',
        table(['', 'frames', 'dropped', 'longest ms'], scrolled),
      ].join('\n'),
    );
  } finally {
    await browser.close();
    await server.remove();
  }
});
