/**
 * Live runs: how late their points are shown; and 50 of them that grow, with 200 page changes, in some minutes or in as
 * many as `MATYAN_FOLLOW_MINUTES` has, after which everything is where it was.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

import { expect, test } from 'vitest';

import { eventually, go, launch, Server, usage, Visit } from '../tests/harness.ts';
import { runId, Writer } from './generate.ts';
import { table, type Row } from './report.ts';

const RUNS = 50;
const CHANGES = 200;
const SHORT_PAUSE_MS = 300;
const PAUSE_MS = Math.max(
  SHORT_PAUSE_MS,
  (Number(process.env.MATYAN_FOLLOW_MINUTES ?? 0) * 60_000) / CHANGES,
);
const TIMEOUT_MS = 1_200_000 + CHANGES * PAUSE_MS;
const TABS = 10;
const POINTS = 20;
/** Every run gets a point in each round. */
const ROUND_MS = 500;
const ESTABLISHED = '01';

/** Connections to a port of this machine that are open; undefined where it has no list of them. */
async function connections(port: string): Promise<number | undefined> {
  const wanted = Number(port).toString(16).toUpperCase().padStart(4, '0');
  const text = await readFile('/proc/net/tcp', 'utf8').catch(() => undefined);
  return text?.split('\n').filter(line => {
    const [, , to = '', state] = line.trim().split(/\s+/);
    return to.endsWith(`:${wanted}`) && state === ESTABLISHED;
  }).length;
}

/** Adds a point to the loss of each run, again and again. */
async function track(writer: Writer, signal: AbortSignal): Promise<number> {
  let step = 3;
  for (; !signal.aborted; step++) {
    const points = [{ series: [0], values: [Math.exp(-step / 200)], steps: [BigInt(step)] }];
    const batch = { series: [{ name: 'loss' }], points };
    await Promise.all(Array.from({ length: RUNS }, (_, number) => writer.publish(number, batch)));
    await sleep(ROUND_MS);
  }
  return step;
}

test('a point that is tracked is shown in many tabs', async () => {
  const [server, browser] = await Promise.all([Server.start(), launch()]);
  try {
    const writer = new Writer(server);
    await writer.runs(1, true);
    const context = await browser.newContext({ viewport: { width: 900, height: 700 } });
    const tabs: Visit[] = [];
    for (let tab = 0; tab < TABS; tab++) {
      const open = await Visit.inContext(
        await context.newPage(),
        server,
        `/runs/${runId(0)}?m=loss`,
      );
      await open.page.waitForSelector('.stream:has-text("Live")');
      tabs.push(open);
    }
    const times: number[] = [];
    for (let point = 0; point < POINTS; point++) {
      const value = point + 0.5;
      const points = [{ series: [0], values: [value], steps: [BigInt(point + 3)] }];
      const start = performance.now();
      await writer.publish(0, { series: [{ name: 'loss' }], points });
      await Promise.all(
        tabs.map(({ page }) =>
          page.waitForSelector(`.legend b:text-is("${value}")`, { state: 'attached' }),
        ),
      );
      times.push(performance.now() - start);
    }
    expect(tabs.flatMap(({ errors }) => errors)).toEqual([]);
    const sorted = times.toSorted((a, b) => a - b);
    const row: Row = [
      `${POINTS} points, in ${TABS} tabs`,
      sorted[POINTS >> 1] ?? NaN,
      sorted.at(-1) ?? NaN,
    ];
    console.info(
      `\nFrom the call of the client to the last tab, in milliseconds:\n${table(['', 'median', 'longest'], [row])}`,
    );
  } finally {
    await browser.close();
    await server.remove();
  }
});

test('nothing grows while a reader follows live runs', { timeout: TIMEOUT_MS }, async () => {
  const [server, browser] = await Promise.all([Server.start(), launch()]);
  const ended = new AbortController();
  try {
    const writer = new Writer(server);
    await writer.runs(RUNS, true);
    const visit = await Visit.open(browser, server, '/runs');
    const { page } = visit;
    const session = await page.context().newCDPSession(page);
    await session.send('Performance.enable');
    const PAGES: ((round: number) => [path: string, ready: string])[] = [
      () => ['/runs', '[role=row] a'],
      round => [`/runs/${runId(round % RUNS)}`, 'section h2'],
      () => ['/metrics', 'section h2'],
      () => ['/', 'section h2'],
      round => [`/runs/${runId(round % RUNS)}?tab=params`, '[role=rowheader]'],
      () => ['/params', '.parallel svg'],
      () => ['/media', 'main h2'],
      round => [
        `/compare?tab=charts&runs=${runId(round % RUNS)},${runId((round + 1) % RUNS)}`,
        'section h2',
      ],
    ];
    const tour = async (changes: number, pauseMs: number): Promise<void> => {
      for (let change = 0; change < changes; change++) {
        const [path, ready] = PAGES[change % PAGES.length]!(change);
        await go(page, path, ready);
        await sleep(pauseMs);
      }
      await go(page, '/tags', '[role=cell]');
      await sleep(2_000);
    };
    const tracking = track(writer, ended.signal);
    await tour(3 * PAGES.length, SHORT_PAUSE_MS);
    const port = new URL(server.addresses.query).port;
    const measured = async () => ({
      ...(await usage(session)),
      connections: await connections(port),
    });
    const before = await measured();
    const start = performance.now();
    await tour(CHANGES, PAUSE_MS);
    const minutes = Math.round((performance.now() - start) / 60_000);
    const after = await measured();
    ended.abort();
    const points = await tracking;
    await eventually('all points are shown', async () => {
      await go(page, `/runs/${runId(0)}`, '.legend b');
      return (await page.locator('.legend b').allTextContents()).length > 0;
    });
    const row = (name: string, one: typeof before): Row => [
      name,
      one.JSHeapUsedSize / 1e6,
      one.Nodes,
      one.JSEventListeners,
      one.connections ?? '',
    ];
    console.info(
      `\n${RUNS} live runs, ${points} points each, ${CHANGES} page changes in ${minutes} minutes:\n` +
        table(
          ['', 'heap MB', 'nodes', 'listeners', 'connections'],
          [row('before', before), row('after', after)],
        ),
    );
    expect(after.JSHeapUsedSize).toBeLessThan(before.JSHeapUsedSize + 8e6);
    expect(after.Nodes).toBeLessThan(1.3 * before.Nodes + 500);
    expect(after.JSEventListeners).toBeLessThan(1.3 * before.JSEventListeners + 50);
    expect(after.connections ?? 0).toBeLessThanOrEqual((before.connections ?? 0) + 1);
    await visit.close();
  } finally {
    ended.abort();
    await browser.close();
    await server.remove();
  }
});
