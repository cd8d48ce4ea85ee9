/** Dashboards and reports with many panels: only those near the view are read. */
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { encodeCbor } from '../src/api/cbor_writer.ts';
import { AppService } from '../src/gen/matyan/apps/v1/apps_pb.ts';
import { DashboardService } from '../src/gen/matyan/dashboards/v1/dashboards_pb.ts';
import { ReportService } from '../src/gen/matyan/reports/v1/reports_pb.ts';
import { SearchService } from '../src/gen/matyan/search/v1/search_pb.ts';
import { SeriesService } from '../src/gen/matyan/series/v1/series_pb.ts';
import { eventually, held, Site, type Visit } from './harness.ts';

const PANELS = 30;
/** The part of a page that scrolls through its panels. */
const CONTENT = 'main .scroll:is(.body, .reading)';
/** The query of a panel has its number, and finds all runs with a batch size. */
const queryOf = (panel: number): string => `run.hparams.batch_size > ${-1 - panel}`;

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

async function createDashboard(): Promise<string> {
  const transport = createGrpcWebTransport({ baseUrl: site.server.addresses.query });
  const panels = Array.from({ length: PANELS }, (_, at) => ({
    ...{
      kind: at % 4 === 3 ? 'runs' : 'chart',
      metric: 'loss',
      query: queryOf(at),
      by: '',
      width: 6,
    },
  }));
  const state = encodeCbor({ panels });
  const { app } = await createClient(AppService, transport).create({ type: 'dashboard', state });
  const dashboards = createClient(DashboardService, transport);
  const { dashboard } = await dashboards.create({ name: 'Many panels', appId: app?.id ?? '' });
  return `/dashboards/${dashboard?.id}`;
}

async function createReport(): Promise<string> {
  const transport = createGrpcWebTransport({ baseUrl: site.server.addresses.query });
  const parts = Array.from({ length: PANELS }, (_, at) => {
    const kind = at % 4 === 3 ? 'runs' : 'chart';
    const metric = kind === 'chart' ? 'metric: loss\n' : '';
    return `## Part ${at}\n\nA text.\n\n\`\`\`${kind}\n${metric}query: ${queryOf(at)}\n\`\`\`\n`;
  });
  const { report } = await createClient(ReportService, transport).create({
    ...{ name: 'Many panels', code: parts.join('\n') },
  });
  return `/reports/${report?.id}`;
}

/** Numbers of the panels whose runs were asked for, in this order. */
function panelsRead(visit: Visit): number[] {
  const texts = visit.requests(SearchService.method.runs).map(({ query }) => query?.text ?? '');
  return texts
    .flatMap(text => -1 - Number(/batch_size > (-\d+)/.exec(text)?.[1] ?? NaN))
    .filter(at => at >= 0);
}

/** Numbers of the panels that are in view, at least in part. */
function panelsInView(page: Page): Promise<number[]> {
  return page.evaluate(content => {
    const view = document.querySelector(content)!.getBoundingClientRect();
    return [...document.querySelectorAll('.panel.whole')].flatMap((panel, at) => {
      const { top, bottom } = panel.getBoundingClientRect();
      return top < view.bottom && bottom > view.top ? [at] : [];
    });
  }, CONTENT);
}

async function scrollTo(page: Page, part: number): Promise<void> {
  await page
    .locator(CONTENT)
    .first()
    .evaluate((one, part) => one.scrollTo(0, part * one.scrollHeight), part);
}

test.each([
  ['dashboard', createDashboard],
  ['report', createReport],
])(
  'a %s reads the panels near the view, visible ones first, and aborts what leaves it',
  async (_, create) => {
    await site.visit(await create(), async visit => {
      const { page } = visit;
      await eventually('charts are drawn', () =>
        page
          .locator('canvas.base')
          .evaluateAll(all => all.some(one => Number(one.dataset.series) > 0)),
      );
      await page.keyboard.press('?');
      await page.keyboard.type('chart in focus');
      const keys = page.locator('dialog[open] [role=option]');
      await eventually('the keys of charts are listed', async () => (await keys.count()) === 6);
      await page.keyboard.press('Escape');
      await visit.quiet();
      const first = panelsRead(visit);
      expect(first).toEqual(first.map((_, at) => at));
      expect(first.length).toBeLessThan(7);
      const charts = visit.requests(SeriesService.method.buckets).length;
      expect(charts).toBeLessThan(7);

      // After a jump, panels in view are read before the panels above.
      await scrollTo(page, 0.5);
      await eventually('others are read', () => panelsRead(visit).length > first.length);
      await visit.quiet();
      const seen = await panelsInView(page);
      const next = panelsRead(visit).slice(first.length);
      expect(next.slice(0, seen.length).toSorted((a, b) => a - b)).toEqual(seen);
      expect(next.length).toBeLessThan(7);

      // A change has only those near the view read again.
      const before = panelsRead(visit).length;
      await site.project.start('a run that may match');
      await eventually('they are read again', () => panelsRead(visit).length > before);
      await visit.quiet();
      for (const panel of panelsRead(visit).slice(before)) expect(next).toContain(panel);

      // What leaves the view is aborted, and does not keep others waiting.
      let aborted = 0;
      page.on(
        'requestfailed',
        request => (aborted += Number(request.url().endsWith('SearchService/Runs'))),
      );
      const release = await held(page, 'SearchService/Runs');
      await scrollTo(page, 0.25);
      await eventually('reads have begun', () =>
        panelsRead(visit).some(panel => panel > 5 && panel < 11),
      );
      await scrollTo(page, 1);
      await eventually('the last panel is read', () => panelsRead(visit).includes(PANELS - 1));
      await eventually('the others are aborted', () => aborted >= 3);
      await release();
      await visit.quiet();
      await eventually('the charts at the end are drawn', () =>
        page
          .locator('canvas.base')
          .evaluateAll(all => all.every(one => Number(one.dataset.series) > 0)),
      );
      expect(panelsRead(visit)).not.toContain(20);
    });
  },
);
