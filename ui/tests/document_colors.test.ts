/** Colors of documents, which everyone who opens them sees. */
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { ReportService } from '../src/gen/matyan/reports/v1/reports_pb.ts';
import { allDrawn, colorsOf, eventually, go, Site, type Visit } from './harness.ts';

const QUERY = 'query: run.name.startswith("vit-small")';
const IN_CHART = 5;
const IN_TABLE = 8;
/** The places in the palette of runs that pages have shown in a tab. */
const KNOWN = 'matyan-colors';

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

async function createReport(): Promise<string> {
  const transport = createGrpcWebTransport({ baseUrl: site.server.addresses.query });
  const panel = (kind: string, lines: string): string => `\`\`\`${kind}\n${lines}\n\`\`\`\n`;
  const code =
    panel('chart', `metric: loss\n${QUERY}\nruns: ${IN_CHART}`) +
    panel('runs', `${QUERY}\nruns: ${IN_TABLE}`);
  const { report } = await createClient(ReportService, transport).create({ name: 'Colors', code });
  return `/reports/${report?.id}`;
}

interface Shown {
  colors: Record<string, string>;
  charts: string[];
}

async function shown(visit: Visit): Promise<Shown> {
  const { page } = visit;
  await eventually(
    'the table has its runs',
    async () => (await page.locator('article tbody tr').count()) === IN_TABLE,
  );
  await allDrawn(page);
  await visit.quiet();
  const charts = page.locator('article canvas.base');
  return {
    colors: await colorsOf(page),
    charts: await charts.evaluateAll(all => all.map(one => (one as HTMLCanvasElement).toDataURL())),
  };
}

/** Holds the first search of a page back until the answer of the second has arrived. */
async function answerSecondFirst(page: Page): Promise<void> {
  let release = (): void => {};
  const second = new Promise<void>(resolve => (release = resolve));
  let count = 0;
  await page.route('**/*.SearchService/Runs', async route => {
    count += 1;
    const isFirst = count === 1;
    if (isFirst) await second;
    await route.fulfill({ response: await route.fetch() });
    if (!isFirst) release();
  });
}

test('the colors of a document follow from its runs, not from what was read or shown before', async () => {
  const address = await createReport();
  const expected = await site.visit(address, visit => shown(visit));
  expect(Object.keys(expected.colors).length).toBe(IN_TABLE);
  expect(new Set(Object.values(expected.colors)).size).toBe(IN_TABLE);

  // Pages of the tab have given all of these runs the same two colors.
  await site.visit(address, async visit => {
    const places = Object.keys(expected.colors).map((id, at) => [id, at % 2]);
    await visit.page.evaluate(([key, text]) => sessionStorage.setItem(key, text), [
      KNOWN,
      JSON.stringify(places),
    ] as const);
    await visit.page.reload();
    expect(await shown(visit)).toEqual(expected);
  });

  await site.visit('/tags', async visit => {
    await answerSecondFirst(visit.page);
    await go(visit.page, address, 'article tbody a');
    expect(await shown(visit)).toEqual(expected);
  });
});
