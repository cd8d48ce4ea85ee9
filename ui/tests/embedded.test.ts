/** The UI in the binary, as it is served without `--ui-dir`. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { launch, Server, Visit } from './harness.ts';

/** No inline script or style, and nothing from elsewhere. */
const POLICY =
  "default-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'";

let browser: Browser;
let server: Server;

beforeAll(async () => {
  [browser, server] = await Promise.all([launch(), Server.start()]);
});

afterAll(async () => {
  await browser?.close();
  await server?.remove();
});

test('the binary serves its own UI, which runs under the policy of its page', async () => {
  const visit = await Visit.open(browser, server, '/');
  const assets: string[] = [];
  visit.page.on('response', async response => {
    const { headers } = { headers: response.headers() };
    if (!response.url().includes('/static-files/')) return;
    assets.push(response.url());
    expect(headers['cache-control']).toBe('public, max-age=31536000, immutable');
    expect(headers['content-encoding']).toBe('gzip');
    expect(headers['x-content-type-options']).toBe('nosniff');
  });
  const page = await visit.page.reload();
  expect(page?.headers()['content-security-policy']).toBe(POLICY);
  expect(page?.headers()['cache-control']).toBe('no-cache');
  await visit.page.getByText('pip install').first().waitFor();
  for (const path of ['/runs', '/metrics', '/params', '/media', '/compare', '/tags']) {
    await visit.page.goto(server.addresses.query + path);
    await visit.page.waitForSelector('main h1, main h2');
  }
  expect(assets.length).toBeGreaterThan(3);
  await visit.close();
});
