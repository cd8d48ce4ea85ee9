/** The guide that a project shows until one of its runs has a point. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';

import { guidesFor } from '../src/pages/first/guides.ts';
import { findings, launch, publish, Server, untilNotified, Visit } from './harness.ts';

const run = promisify(execFile);
const GUIDES = ['Script', 'W&B', 'MLflow', 'TensorBoard', 'Lightning', 'Hugging Face'];
const SCREENS = [
  { theme: 'light', width: 390 },
  { theme: 'dark', width: 1280 },
  { theme: 'light', width: 2560 },
] as const;

let browser: Browser;
let server: Server;

beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser?.close());
beforeEach(async () => {
  server = await Server.start();
});
afterEach(() => server?.remove());

const script = (page: Page) => page.getByRole('group', { name: 'Text' });

test.each(SCREENS)('every way to a first run can be copied, $theme, $width px', async screen => {
  const visit = await Visit.open(browser, server, '/', screen);
  const { page } = visit;
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.getByRole('tab', { name: 'Script' }).focus();
  for (const title of GUIDES) {
    await page.getByRole('tabpanel', { name: title }).waitFor();
    expect(await script(page).textContent()).toContain(server.addresses.query);
    for (const [label, what] of [
      ['Install', 'command'],
      ['Text', 'script'],
    ] as const) {
      await page.getByRole('button', { name: `Copy the ${what}` }).click();
      const copied = await page.evaluate(() => navigator.clipboard.readText());
      expect(copied).toBe(await page.getByRole('group', { name: label }).textContent());
    }
    expect(await findings(page)).toEqual([]);
    await page.getByRole('tab', { name: title }).focus();
    await page.keyboard.press('ArrowRight');
  }
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  expect(overflow).toBe(0);
  await visit.shot(`first-minute-${screen.theme}-${screen.width}`);
  await visit.close();
});

test('a hidden guide stays hidden, opens no run, and can be shown again', async () => {
  const visit = await Visit.open(browser, server, '/');
  const { page } = visit;
  await page.getByRole('button', { name: 'Hide this guide' }).click();
  await page.reload();
  await page.getByRole('button', { name: 'Show how to log a run' }).click();
  await script(page).waitFor();
  await page.getByRole('button', { name: 'Hide this guide' }).click();
  const id = 'feed'.repeat(6);
  await publish(server, id, [{ kind: { case: 'createRun', value: {} } }], {
    series: [{ name: 'loss' }],
    points: [{ series: [0], steps: [0n], values: [1] }],
  });
  await page.getByRole('heading', { name: 'Newest runs' }).waitFor();
  await visit.quiet();
  expect(new URL(page.url()).pathname).toBe('/');
  await visit.close();
});

test('a run without a point leaves the guide, and its first point opens it', async () => {
  const id = 'dead'.repeat(6);
  await publish(server, id, [{ kind: { case: 'createRun', value: {} } }]);
  const visit = await Visit.open(browser, server, '/');
  await visit.page.getByRole('heading', { name: 'No run has a point yet' }).waitFor();
  await visit.page.getByRole('heading', { name: 'Newest runs' }).waitFor();
  await visit.shot('first-minute-without-points');
  expect(await findings(visit.page)).toEqual([]);
  const point = (name: string) => ({
    series: [{ name }],
    points: [{ series: [0], steps: [0n], values: [1] }],
  });
  await untilNotified(visit.page, () => publish(server, id, [], point('__system__cpu')));
  await visit.quiet();
  expect(new URL(visit.page.url()).pathname).toBe('/');
  await publish(server, id, [], point('loss'));
  await visit.page.waitForURL(new RegExp(`/runs/${id}`));
  await visit.page.goto(`${server.addresses.query}/`);
  await visit.page.getByRole('heading', { name: 'Newest runs' }).waitFor();
  await script(visit.page).waitFor({ state: 'detached' });
  await visit.close();
});

/** Interpreters with the client that pip gives without a version, and with the client of this repository. */
const CLIENTS = [
  ['the published client', process.env.MATYAN_PUBLISHED_PYTHON, { PYTHONPATH: '' }],
  ['the client of this repository', process.env.MATYAN_SDK_PYTHON, {}],
] as const;

for (const [client, python, environment] of CLIENTS) {
  test.skipIf(!python)(`the modules of the guides are in ${client}`, async () => {
    const code = guidesFor('http://tracker')
      .map(guide => guide.code)
      .join('\n');
    const modules = [...code.matchAll(/^(?:from|import) (matyan_client[\w.]*)/gm)].map(
      ([, name]) => name!,
    );
    expect(modules).toContain('matyan_client.adapters.hugging_face');
    // Adapters need other packages as soon as they are imported, so the modules are only found.
    const find =
      'import sys, importlib.util as util; print([n for n in sys.argv[1:] if not util.find_spec(n)])';
    const { stdout } = await run(python!, ['-c', find, ...modules], {
      env: { ...process.env, ...environment },
    });
    expect(stdout.trim()).toBe('[]');
  });
  test.skipIf(!python)(`the script shows a chart with ${client}`, async () => {
    const visit = await Visit.open(browser, server, '/');
    const code = (await script(visit.page).textContent()) ?? '';
    await Promise.all([
      run(python!, ['-c', code], { env: { ...process.env, ...environment } }),
      visit.page.waitForURL(/\/runs\/\w+/),
    ]);
    for (const metric of ['loss', 'accuracy'])
      await visit.page.getByRole('application', { name: `Chart of ${metric}` }).waitFor();
    await visit.close();
  });
}
