/** Active runs: silence, progress, and a notification at their end. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import type { EventSchema } from '../src/gen/matyan/ingest/v1/batch_pb.ts';
import { eventually, findings, publish, Site } from './harness.ts';

const MINUTE = 60_000;

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site?.close());

/** Moves the clock of the server, as far as answers tell it. */
async function shiftServer(page: Page, ms: number): Promise<void> {
  await page.route('**/matyan.*/**', async route => {
    if (/\/Watch$/.test(route.request().url())) return route.continue();
    const response = await route.fetch();
    const date = new Date(Date.parse(response.headers().date ?? '') + ms).toUTCString();
    return route.fulfill({ response, headers: { ...response.headers(), date } });
  });
}

async function statusOf(page: Page): Promise<string> {
  return ((await page.locator('dl .status').first().textContent()) ?? '').trim();
}

test.each(['light', 'dark'] as const)('a run that sends nothing says so, %s', async theme => {
  await site.project.track(0.5);
  await site.visit(
    `/runs/${site.runs.live}`,
    async visit => {
      const { page } = visit;
      await eventually('it is running', async () => (await statusOf(page)) === 'Running');
      await shiftServer(page, 6.5 * MINUTE);
      await page.reload();
      await eventually('it is silent', async () => (await statusOf(page)) === 'No data for 6 min');
      await visit.shot(`live-silent-${theme}`);
      expect(await findings(page)).toEqual([]);
      await page.goto(`${visit.base}/runs?q=run.active`);
      const status = page.locator('.table .row:not(.head) .status').first();
      await eventually('the table says so', async () =>
        ((await status.textContent()) ?? '').includes('No data for 6 min'),
      );
    },
    { theme },
  );
});

test('rule 106: a wrong clock of this machine makes no run silent, and no silent run busy', async () => {
  await site.project.track(0.4);
  await site.visit(`/runs/${site.runs.live}`, async ({ page }) => {
    for (const hours of [-3, 3]) {
      await page.clock.setFixedTime(Date.now() + hours * 60 * MINUTE);
      await page.reload();
      await eventually('it is running', async () => (await statusOf(page)) === 'Running');
    }
    await shiftServer(page, 125 * MINUTE);
    await page.reload();
    await eventually('it is silent', async () => (await statusOf(page)) === 'No data for 2 h');
  });
});

test('a run shows its progress if it has reported how many steps there are', async () => {
  const id = 'pr06'.padEnd(24, '0');
  // A map of CBOR: {"__progress__": {"total_steps": 200}, "max_steps": 1000}
  const value = Uint8Array.from([
    0xa2,
    0x69,
    ...new TextEncoder().encode('max_steps'),
    ...[0x19, 0x03, 0xe8],
    0x6c,
    ...new TextEncoder().encode('__progress__'),
    0xa1,
    0x6b,
    ...new TextEncoder().encode('total_steps'),
    ...[0x18, 0xc8],
  ]);
  const events: MessageInitShape<typeof EventSchema>[] = [
    { kind: { case: 'createRun', value: {} } },
    { kind: { case: 'logParams', value: { value } } },
  ];
  const points = (step: number) => ({
    series: [{ name: 'loss' }],
    points: [{ series: [0], steps: [BigInt(step)], values: [1] }],
  });
  await publish(site.server, id, events, points(49));
  await site.visit(`/runs/${id}`, async ({ page }) => {
    await eventually('a quarter', async () => /^Running 25\s?%$/.test(await statusOf(page)));
    await publish(site.server, id, [], points(149));
    await eventually('three quarters', async () => /^Running 75\s?%$/.test(await statusOf(page)));
    await page.getByRole('tab', { name: 'Params' }).click();
    await page.getByText('max_steps').waitFor();
    expect(await page.getByText('__progress__').count()).toBe(0);
  });
});

test('the browser notifies at the end of a run, once, in all tabs', async () => {
  const id = 'n071ce'.padEnd(24, '0');
  const name = { case: 'setRunProperty' as const, value: { name: 'long training' } };
  await publish(site.server, id, [{ kind: { case: 'createRun', value: {} } }, { kind: name }]);
  await site.visit(`/runs/${id}`, async visit => {
    const { page } = visit;
    await page.context().grantPermissions(['notifications'], { origin: visit.base });
    // What would be shown by the desktop.
    await page.context().addInitScript(() => {
      const shown: string[] = [];
      class Shown extends EventTarget {
        static requestPermission = () => Promise.resolve('granted');
        constructor(title: string) {
          super();
          shown.push(title);
        }
      }
      Object.assign(globalThis, { Notification: Shown, shown });
    });
    await page.reload();
    const shown = (): Promise<string[]> =>
      page.evaluate(() => (globalThis as unknown as { shown: string[] }).shown);
    await page.getByRole('button', { name: 'Notify me at the end', exact: true }).click();
    await page.getByText('The browser will tell you').waitFor();
    // On another page, too.
    await page.goto(`${visit.base}/metrics?q=vit`);
    await publish(site.server, id, [{ kind: { case: 'finishRun', value: {} } }]);
    await eventually('it is shown', async () => (await shown()).length > 0);
    expect(await shown()).toEqual(['long training has ended']);
    await page.reload();
    await visit.quiet();
    expect(await shown()).toEqual([]);
  });
});
