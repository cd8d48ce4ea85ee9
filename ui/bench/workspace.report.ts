/**
 * Prints how long a workspace of 12 panels over 500 runs takes to open in Chromium: 6,000 lines, as a dashboard and as
 * charts of the page Metrics. The goal is a second.
 */
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';

import { encodeCbor } from '../src/api/cbor_writer.ts';
import { AppService } from '../src/gen/matyan/apps/v1/apps_pb.ts';
import { DashboardService } from '../src/gen/matyan/dashboards/v1/dashboards_pb.ts';
import { launch, Server, Visit } from '../tests/harness.ts';
import { Writer } from './generate.ts';
import { opened } from './opening.ts';
import { table, type Row } from './report.ts';

const RUNS = 500;
const PANELS = 12;
const STEPS = 500;
const AT_A_TIME = 16;
const ROUNDS = 5;
const NAMES = Array.from({ length: PANELS }, (_, at) => `metric ${at}`);

async function writeCharted(writer: Writer, run: number): Promise<void> {
  const numbers = NAMES.map((_, number) => number);
  const points = Array.from({ length: STEPS }, (_, step) => ({
    series: numbers,
    values: numbers.map(number => Math.exp(-step / (50 * (number + 1))) + (run % 97) / 100),
    steps: numbers.map(() => BigInt(step)),
  }));
  await writer.publish(run, { series: NAMES.map(name => ({ name })), points });
}

/** Returns the path of a dashboard with a chart of every metric, all in one view. */
async function createDashboard({ addresses }: Server): Promise<string> {
  const transport = createGrpcWebTransport({ baseUrl: addresses.query });
  const panels = NAMES.map(metric => ({ metric, runs: String(RUNS), width: '2', height: '2' }));
  const { app } = await createClient(AppService, transport).create({
    type: 'dashboard',
    state: encodeCbor({ panels }),
  });
  const dashboards = createClient(DashboardService, transport);
  const { dashboard } = await dashboards.create({ name: 'Workspace', appId: app?.id ?? '' });
  return `/dashboards/${dashboard?.id}`;
}

/** Resolves when every chart is drawn with a line for each run. */
async function drawn(page: Page): Promise<void> {
  await page.waitForFunction(
    ({ charts, lines }) => {
      const all = [...document.querySelectorAll<HTMLCanvasElement>('canvas.base')];
      return all.filter(({ dataset }) => dataset.series === lines).length === charts;
    },
    { charts: PANELS, lines: String(RUNS) },
  );
}

test('a workspace of 12 panels over 500 runs', async () => {
  const [server, browser] = await Promise.all([Server.start(), launch()]);
  try {
    const writer = new Writer(server);
    await writer.runs(RUNS);
    let next = 0;
    const write = async (): Promise<void> => {
      while (next < RUNS) await writeCharted(writer, next++);
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, write));
    const views = [
      { name: 'a dashboard', path: await createDashboard(server) },
      { name: 'the page Metrics', path: '/metrics?limit=1000&m=metric' },
    ];
    // So tall that all charts are in view: others are not read.
    const visit = await Visit.open(browser, server, '/tags', { height: 3_000 });
    const { page, base } = visit;
    const session = await page.context().newCDPSession(page);
    await session.send('Network.enable');
    await session.send('Performance.enable');
    // The server may still be storing points.
    await page.goto(base + views[0]!.path);
    await drawn(page);
    const rows: Row[] = [];
    for (const { name, path } of views) {
      const rounds: Row[] = [];
      for (let round = 0; round < ROUNDS; round++)
        rounds.push(await opened(session, name, page, base + path, () => drawn(page)));
      rounds.sort(([, a], [, b]) => Number(a) - Number(b));
      rows.push(rounds[ROUNDS >> 1]!);
      await visit.shot(`workspace-${rows.length}`);
    }
    expect(rows.length).toBe(views.length);
    await visit.close();
    console.info(
      [
        `\n${PANELS} panels over ${RUNS} runs of ${STEPS} points, with an empty cache, the median of ${ROUNDS}:`,
        table(['', 'ms', 'kB', 'heap MB'], rows),
      ].join('\n'),
    );
  } finally {
    await browser.close();
    await server.remove();
  }
});
