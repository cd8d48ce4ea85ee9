/**
 * Every page, in a project as large as they come: 100,000 runs, 50 of them with 1,000 series, one with 10,000, one
 * series of ten million points, media and logs, and names with every character. Each page opens without an error and
 * without a finding of axe, in both themes, and its time is printed.
 */
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';

import { encodeCbor } from '../src/api/cbor_writer.ts';
import { findings, go, Site, usage, type Visit } from '../tests/harness.ts';
import { POINTS, runId, writeLong, writeWide, Writer } from './generate.ts';
import { table, type Row } from './report.ts';

const RUNS = Number(process.env.MATYAN_RUNS ?? 100_000);
/** Runs of many series are the newest ones, which lists show first. */
const WIDE_RUNS = 50;
const SERIES = 1_000;
const WIDEST = RUNS;
const LONG = RUNS + 1;
const ODD = RUNS + 2;
const WIDEST_SERIES = 10_000;
const ODD_TEXT = `<b onclick="alert(1)">'&amp;</b> \\ / % # ? ${String.fromCodePoint(0x202e, 0x7f, 0x85)} é 名前 🙂`;

/** Writes a run whose every name is odd. */
async function writeOdd(writer: Writer): Promise<void> {
  const run = runId(ODD);
  const path = `models/${ODD_TEXT.replaceAll('/', '').replace(/\p{Cc}/gu, '')}.txt`;
  await writer.publish(ODD, {
    series: [{ name: ODD_TEXT, context: JSON.stringify({ [ODD_TEXT]: ODD_TEXT }) }],
    events: [
      { kind: { case: 'createRun', value: {} } },
      { kind: { case: 'setRunProperty', value: { name: ODD_TEXT, experiment: ODD_TEXT } } },
      {
        kind: {
          case: 'logParams',
          value: { value: encodeCbor({ [ODD_TEXT]: { [ODD_TEXT]: ODD_TEXT } }) },
        },
      },
      { kind: { case: 'addTag', value: { name: ODD_TEXT } } },
      { kind: { case: 'blobRef', value: { key: `${run}/${path}`, path, size: 10n } } },
    ],
    points: [{ series: [0, 0, 0], values: [1, 2, NaN], steps: [0n, 1n, 2n] }],
  });
}

async function write(writer: Writer): Promise<void> {
  await writer.runs(RUNS + 2);
  for (let run = RUNS - WIDE_RUNS; run < RUNS; run++) await writeWide(writer, run, SERIES);
  await writeWide(writer, WIDEST, WIDEST_SERIES);
  await writeLong(writer, LONG);
  await writeOdd(writer);
}

/** Waits until every chart in view is drawn with its series. */
async function drawn(page: Page): Promise<void> {
  await page.waitForFunction(() => {
    const charts = [...document.querySelectorAll<HTMLCanvasElement>('canvas.base')];
    return (
      charts.length > 0 && charts.every(({ dataset }) => dataset.draws && dataset.series !== '0')
    );
  });
}

interface PageOfProject {
  name: string;
  path: string;
  ready: string;
  /** Done once the page is there. */
  use?: (visit: Visit) => Promise<unknown>;
}

function pages(media: string): PageOfProject[] {
  const charts = { ready: 'section h2', use: ({ page }: Visit) => drawn(page) };
  const run = (number: number, tab = ''): string => `/runs/${runId(number)}${tab}`;
  return [
    { name: 'home', path: '/', ready: 'section a' },
    {
      name: 'runs, and the list of columns',
      path: '/runs',
      ready: '[role=row] a',
      use: async ({ page }) => {
        await page.click('button:text-is("Columns")');
        await page.locator('dialog input[type=search]').fill('weight7');
        await page.locator('dialog label', { hasText: 'weight7' }).first().waitFor();
      },
    },
    {
      name: 'runs, and a query that is completed',
      path: '/runs',
      ready: '[role=row] a',
      use: async ({ page }) => {
        await page.keyboard.press('/');
        await page.keyboard.type('run.hparams.opt');
        await page.getByRole('option', { name: 'optimizer' }).waitFor();
      },
    },
    {
      name: 'the palette',
      path: '/tags',
      ready: '[role=cell]',
      use: async ({ page }) => {
        await page.keyboard.press('Control+k');
        await page.keyboard.type(`run ${RUNS - 7}`);
        await page
          .getByRole('option', { name: `run ${RUNS - 7}` })
          .first()
          .waitFor();
      },
    },
    { name: 'a run of 1,000 series', path: run(RUNS - 1), ...charts },
    { name: 'a run of 10,000 series', path: run(WIDEST), ...charts },
    { name: `a series of ${POINTS} points`, path: run(LONG), ...charts },
    { name: 'a run with odd names', path: run(ODD), ...charts },
    { name: 'its params', path: run(ODD, '?tab=params'), ready: '[role=rowheader]' },
    { name: 'its overview', path: run(ODD, '?tab=overview'), ready: 'dl code' },
    { name: 'its artifacts', path: run(ODD, '?tab=artifacts'), ready: '[role=rowheader]' },
    { name: 'a run with media', path: `/runs/${media}?tab=media`, ready: 'canvas[data-drawn]' },
    { name: 'metrics', path: '/metrics', ...charts },
    { name: 'params', path: '/params', ready: '.parallel svg' },
    { name: 'media', path: '/media', ready: 'canvas[data-drawn]' },
    { name: 'a comparison', path: '/compare', ready: '[role=rowheader]' },
    { name: 'experiments', path: '/experiments', ready: '[role=cell]' },
    { name: 'tags', path: '/tags', ready: '[role=cell]' },
    { name: 'dashboards', path: '/dashboards', ready: 'h2' },
    { name: 'reports', path: '/reports', ready: 'h2' },
    { name: 'the project', path: '/project', ready: 'dl b' },
  ];
}

test('every page of a large project', async () => {
  const site = await Site.open();
  try {
    await write(new Writer(site.server));
    const rows: Row[] = [];
    for (const { name, path, ready, use } of pages(site.runs.studio)) {
      const times: number[] = [];
      let heap = 0;
      for (const theme of ['light', 'dark'] as const) {
        await site.visit(
          '/nothing/here',
          async visit => {
            const { page } = visit;
            const start = performance.now();
            await go(page, path, ready);
            await use?.(visit);
            times.push(performance.now() - start);
            await visit.quiet();
            await visit.shot(`large-${name.replaceAll(/\W+/g, '-')}-${theme}`);
            expect(await findings(page), name).toEqual([]);
            const session = await page.context().newCDPSession(page);
            await session.send('Performance.enable');
            heap = (await usage(session)).JSHeapUsedSize / 1e6;
          },
          { theme },
        );
      }
      rows.push([name, ...times, heap]);
    }
    const heading: Row = ['milliseconds until it is there', 'light', 'dark', 'heap MB'];
    console.info(`\n${RUNS} runs and more:\n${table(heading, rows)}`);
  } finally {
    await site.close();
  }
});
