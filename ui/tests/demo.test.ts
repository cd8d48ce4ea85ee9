/**
 * The page for a person who has just run the demo of the Python package. The README has a picture
 * of it.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { drawn, eventually, launch, Server, Visit } from './harness.ts';

let browser: Browser;
let server: Server;
let spools: string;

beforeAll(async () => {
  [browser, server] = await Promise.all([launch(), Server.start()]);
  spools = await mkdtemp(join(tmpdir(), 'matyan-ui-spools-'));
  const { query, ingest } = server.addresses;
  await promisify(execFile)(
    process.env.MATYAN_SDK_PYTHON ?? 'python3',
    ['-m', 'matyan_client.demo', '--seconds', '0'],
    {
      env: {
        ...process.env,
        MATYAN_BACKEND_URL: query,
        MATYAN_FRONTIER_URL: ingest,
        MATYAN_QUIET: '1',
        MATYAN_SPOOL_DIR: spools,
      },
    },
  );
});

afterAll(async () => {
  await browser?.close();
  await server?.remove();
  await rm(spools, { recursive: true, force: true });
});

test('the runs of the demo are charts', async () => {
  const query = encodeURIComponent('run.hparams.learning_rate < 1');
  const visit = await Visit.open(browser, server, `/metrics?logy=1&q=${query}`, {
    width: 1200,
    height: 500,
  });
  // Five runs; the loss has two contexts.
  await eventually('all lines are drawn', async () => {
    return (await drawn(visit.page, 'accuracy')) === 5 && (await drawn(visit.page, 'loss')) === 10;
  });
  expect(await visit.page.getByRole('table', { name: 'Runs of the charts' }).isVisible()).toBe(
    true,
  );
  await visit.quiet();
  await visit.shot('demo');
  await visit.close();
});
