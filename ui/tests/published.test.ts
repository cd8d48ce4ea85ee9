/** Published copies on a web server that knows nothing of Matyan, next to the same pages on their server. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type Server as WebServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, normalize } from 'node:path';
import { promisify } from 'node:util';

import { fromBinary } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';

import { encodeCbor } from '../src/api/cbor_writer.ts';
import { AppService } from '../src/gen/matyan/apps/v1/apps_pb.ts';
import { ReportService } from '../src/gen/matyan/reports/v1/reports_pb.ts';
import { BucketColumn, SeriesService } from '../src/gen/matyan/series/v1/series_pb.ts';
import { PublishedRunSchema } from '../src/gen/matyan/published/v1/published_pb.ts';
import { fineBuckets } from '../src/published/buckets.ts';
import { CopyFiles } from '../src/published/files.ts';
import { allDrawn, findings, launch, Server, Visit, type ProjectRuns } from './harness.ts';

const TYPES: { [extension: string]: string } = {
  html: 'text/html',
  js: 'text/javascript',
  css: 'text/css',
  svg: 'image/svg+xml',
};

let server: Server;
let browser: Browser;
let runs: ProjectRuns;
let folder: string;
let web: WebServer;
/** Whether the web server answers with the ranges that it is asked for. */
let hasRanges = true;

/** Serves the files of the folder. */
function serve(): WebServer {
  return createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    const path = join(
      folder,
      normalize(pathname.endsWith('/') ? `${pathname}index.html` : pathname),
    );
    void readFile(path).then(
      content => {
        const type = TYPES[path.split('.').at(-1) ?? ''] ?? 'application/octet-stream';
        const range = hasRanges && /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
        const start = range ? Number(range[1]) : 0;
        const part = content.subarray(start, range && range[2] ? Number(range[2]) + 1 : undefined);
        response.writeHead(range ? 206 : 200, {
          'content-type': type,
          ...(range && {
            'content-range': `bytes ${start}-${start + part.length - 1}/${content.length}`,
          }),
        });
        response.end(part);
      },
      () => response.writeHead(404).end(),
    );
  });
}

const addressOf = (name: string): string =>
  `http://127.0.0.1:${(web.address() as AddressInfo).port}/${name}/`;

/** Publishes a run or a document to a folder of the web server. */
async function copyRun(name: string, run: string, ...flags: string[]): Promise<string> {
  const output = join(folder, name);
  const args = ['publish', run, '--server', server.addresses.query, '--output', output, '--json'];
  const binary = process.env.MATYAN_BIN ?? '';
  return (await promisify(execFile)(binary, [...args, ...flags])).stdout;
}

async function visit<T>(base: string, path: string, use: (visit: Visit) => Promise<T>): Promise<T> {
  const at = { addresses: { query: base, ingest: '' } } as Server;
  const open = await Visit.open(browser, at, path);
  try {
    return await use(open);
  } catch (error) {
    await open.shot('failed-published');
    open.errors.unshift(String(error));
    throw error;
  } finally {
    await open.close();
  }
}

beforeAll(async () => {
  const filled = inject('filled');
  folder = await mkdtemp(join(tmpdir(), 'matyan-ui-published-'));
  [browser, server] = await Promise.all([launch(), Server.start({ data: filled?.data })]);
  runs = filled?.runs as ProjectRuns;
  web = serve();
  await new Promise<void>(done => web.listen(0, '127.0.0.1', done));
});
afterAll(async () => {
  web?.close();
  await browser?.close();
  await server?.remove();
  await rm(folder, { recursive: true, force: true });
});

test('charts of a copy are those of the server at every zoom', async () => {
  const written = JSON.parse(await copyRun('spike', runs.spike)) as { files: number };
  expect(written.files).toBeGreaterThan(100);
  const charts = (base: string, path: string): Promise<string[]> =>
    visit(base, path, async ({ page }) => {
      await allDrawn(page);
      return page
        .locator('canvas.base')
        .evaluateAll(all => all.map(canvas => (canvas as HTMLCanvasElement).toDataURL()));
    });
  for (const zoom of ['', '&from=54300&to=54339']) {
    const own = await charts(server.addresses.query, `/runs/${runs.spike}?tab=metrics${zoom}`);
    expect(own.length).toBe(1);
    for (const isAble of [true, false]) {
      hasRanges = isAble;
      expect(await charts(addressOf('spike'), `?tab=metrics${zoom}`)).toEqual(own);
    }
    hasRanges = true;
  }

  const files = new CopyFiles(fetch, path => `${addressOf('spike')}data/${path}`);
  const { series } = fromBinary(PublishedRunSchema, await files.read('run.bin'));
  const client = createClient(
    SeriesService,
    createGrpcWebTransport({ baseUrl: server.addresses.query }),
  );
  const { MIN, MAX, LAST, LAST_STEP, COUNT, LAST_TIME } = BucketColumn;
  const columns = [MIN, MAX, LAST, LAST_STEP, COUNT, LAST_TIME];
  const ends = [undefined, 777, 4_096, 54_321, 54_322];
  const numbers = [series[0]?.number ?? 0];
  let compared = 0;
  let expected = 0;
  for (const start of ends)
    for (const stop of ends)
      for (const pixels of [1, 90, 1_500]) {
        const steps = {
          ...(start !== undefined && { start: BigInt(start) }),
          ...(stop !== undefined && { stop: BigInt(stop) }),
        };
        const hasSteps = (start ?? -Infinity) < (stop ?? Infinity);
        if (hasSteps) expected += 1;
        const request = { runs: [{ runId: runs.spike, numbers }], steps, pixels, columns };
        for await (const { series: found } of client.buckets(request)) {
          const range = { from: start ?? -Infinity, to: (stop ?? Infinity) - 1 };
          if (hasSteps) compared += 1;
          const copied = await fineBuckets(files, series[0]!, range, pixels);
          const own = copied.buckets;
          expect({
            width: copied.width,
            min: own.map(({ min }) => min),
            max: own.map(({ max }) => max),
            last: own.map(({ last }) => last),
            lastStep: own.map(({ lastStep }) => lastStep),
            lastTime: own.map(({ lastTime }) => lastTime),
            count: own.map(({ count }) => count),
          }).toEqual({
            width: Number(found[0]?.width ?? 0n),
            min: found[0]?.min ?? [],
            max: found[0]?.max ?? [],
            last: found[0]?.last ?? [],
            lastStep: (found[0]?.lastStep ?? []).map(Number),
            lastTime: (found[0]?.lastTimeUs ?? []).map(Number),
            count: found[0]?.count ?? [],
          });
        }
      }
  expect(compared).toBe(expected);
});

test('a copy shows the parts of its run, and leads nowhere else', async () => {
  await copyRun('studio', runs.studio, '--artifacts', '--environment');
  const base = addressOf('studio');
  await visit(base, 'index.html', async opened => {
    const { page } = opened;
    // The address of a page on a server means nothing here.
    expect(await page.title()).toBe('studio · Matyan');
    const tab = (name: string): Promise<void> =>
      page.getByRole('tab', { name, exact: true }).click();
    await tab('Overview');
    await page.getByText('Every kind of thing that a run can log.').waitFor();
    await page.getByText('3cca543').waitFor();
    await page.locator('.fact:has-text("Published"):has-text("just now")').waitFor();
    // A table would have to be searched.
    expect(await page.locator('main a').count()).toBe(0);
    expect(await page.locator('nav li a').count()).toBe(0);
    expect(await page.getByRole('button', { name: 'Add a tag' }).count()).toBe(0);
    await opened.shot('published-overview');
    expect(await findings(page)).toEqual([]);

    await tab('Terminal');
    await page.locator('.printed:has-text("epoch 29 batch 99")').waitFor();
    await page.fill('input[aria-label="Search lines"]', 'epoch 3 batch 12:');
    await page.locator('.current:has-text("epoch 3 batch 12")').waitFor();
    await tab('Media');
    await page.locator('canvas[data-drawn]').first().waitFor();
    await opened.shot('published-media');
    for (const name of ['Logs', 'Params', 'Artifacts', 'System', 'Environment', 'Git diff']) {
      await tab(name);
      await opened.quiet();
    }
    // The address stays the address of the copy, even after the document is loaded again.
    expect(page.url()).toContain(`${base}index.html?`);
    await page.reload();
    await page.getByRole('tab', { name: 'Git diff', selected: true }).waitFor();
    expect(opened.calls).toEqual([]);
  });

  await visit(base, '?tab=media&kind=pages', async ({ page, errors }) => {
    const frame = (await (
      await page.waitForSelector('iframe[title^="predictions"]')
    ).contentFrame())!;
    // Its own script has run, and has reached nothing.
    await frame.waitForSelector('b:text-is("refused")');
    expect(await page.title()).toBe('studio · Matyan');
    // A reader who opens its address sees text.
    await page.goto(frame.url());
    expect(await page.locator('plaintext').textContent()).toContain('<b>waiting</b>');
    expect(await page.locator('b').count()).toBe(0);
    expect(errors.splice(0).every(text => /content security policy|csp/i.test(text))).toBe(true);
  });

  await visit(addressOf('spike'), '?tab=artifacts', async ({ page }) => {
    await page.getByText(/^\s*This copy was published without --artifacts\.\s*$/).waitFor();
  });

  const names = await readdir(join(folder, 'studio/data'), {
    recursive: true,
    withFileTypes: true,
  });
  for (const name of names.filter(one => one.isFile())) {
    const content = await readFile(join(name.parentPath, name.name), 'latin1');
    for (const secret of [server.data, server.addresses.query, 'file://'])
      expect(content.includes(secret), `${secret} in ${name.name}`).toBe(false);
  }
});

const SWEEP = 'run.hparams.batch_size > 0';
/** Charts as they are on the screen. */
const pictures = (page: Page): Promise<string[]> =>
  page
    .locator('canvas.base')
    .evaluateAll(all => all.map(canvas => (canvas as HTMLCanvasElement).toDataURL()));

test('a report is copied with the runs that it shows', async () => {
  const transport = createGrpcWebTransport({ baseUrl: server.addresses.query });
  const query = `query: run.hparams.batch_size\n  > 0`;
  const code =
    `A text.\n\n\`\`\`chart\nmetric: loss\n${query}\nruns: 5\n\`\`\`\n\n` +
    `\`\`\`runs\n${query}\nruns: 8\n\`\`\`\n`;
  const { report } = await createClient(ReportService, transport).create({
    ...{ name: 'Sweep of the week', code },
  });
  const written = JSON.parse(await copyRun('report', 'Sweep of the week')) as { runs: number };
  expect(written.runs).toBeGreaterThanOrEqual(8);
  const shown = (base: string, path: string) =>
    visit(base, path, async ({ page }) => {
      await allDrawn(page);
      const names = page.getByRole('region', { name: 'Runs' }).locator('tbody td:first-child');
      await names.first().waitFor();
      return { charts: await pictures(page), names: await names.allTextContents() };
    });
  const own = await shown(server.addresses.query, `/reports/${report?.id}`);
  expect(own.names.length).toBe(8);
  expect(await shown(addressOf('report'), '')).toEqual(own);

  await visit(addressOf('report'), '', async opened => {
    const { page } = opened;
    await page.getByRole('heading', { name: 'Sweep of the week' }).waitFor();
    await opened.shot('published-report');
    expect(await findings(page)).toEqual([]);
    // Runs that charts show have a page, which leads back.
    const link = page.getByRole('region', { name: 'Runs' }).locator('tbody a').first();
    const name = (await link.textContent()) ?? '';
    await link.click();
    await page.waitForURL(/\/report\/runs\/\w+\/index\.html/);
    await page.getByRole('heading', { name }).waitFor();
    await allDrawn(page);
    await page.getByRole('link', { name: 'Back to the report' }).click();
    await page.getByRole('heading', { name: 'Sweep of the week' }).waitFor();
    expect(opened.calls).toEqual([]);
  });
});

test('a view is copied with its pages, which order, group and hide its runs', async () => {
  const transport = createGrpcWebTransport({ baseUrl: server.addresses.query });
  const state = encodeCbor({
    ...{ name: 'Sweep', isDefault: 0, scope: `q=${encodeURIComponent(SWEEP)}` },
    pages: { metrics: 'm=%2F%5Eloss%24%2F', params: 'view=scatter' },
  });
  await createClient(AppService, transport).create({ type: 'workspace', state });
  await copyRun('view', 'view:Sweep');
  const charts = (base: string, path: string): Promise<string[]> =>
    visit(base, path, async ({ page }) => {
      await allDrawn(page);
      return pictures(page);
    });
  const address = `/metrics?q=${encodeURIComponent(SWEEP)}&m=%2F%5Eloss%24%2F`;
  expect(await charts(addressOf('view'), '')).toEqual(
    await charts(server.addresses.query, address),
  );

  await visit(addressOf('view'), '', async opened => {
    const { page } = opened;
    await allDrawn(page);
    await page.locator('aside button[aria-pressed=true]').first().click();
    await page.getByText('1 hidden').waitFor();
    // The page of the runs gets what was hidden, and is its own document.
    await page.getByRole('link', { name: 'Runs', exact: true }).click();
    await page.waitForURL(/\/view\/runs\/index\.html\?.*hide=/);
    const rows = page.locator('.table .row:not(.head) .name');
    await rows.first().waitFor();
    await page.getByRole('button', { name: 'Name', exact: true }).first().click();
    await opened.quiet();
    const names = await rows.allTextContents();
    expect(names).toEqual(names.toSorted((a, b) => (a < b ? -1 : 1)));
    await opened.shot('published-view-runs');
    expect(await findings(page)).toEqual([]);
    await page.getByRole('link', { name: 'Params', exact: true }).click();
    await page.getByRole('application', { name: / by / }).waitFor();
    await page.getByRole('link', { name: 'Compare', exact: true }).click();
    await page.getByRole('tabpanel', { name: 'Values' }).waitFor();
    await opened.quiet();
    expect(opened.calls).toEqual([]);
  });
});
