/** Active runs: silence, progress, and a notification at their end. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import type { EventSchema } from '../src/gen/matyan/ingest/v1/batch_pb.ts';
import { RunService } from '../src/gen/matyan/runs/v1/runs_pb.ts';
import { eventually, findings, go, publish, Site, untilNotified, Visit } from './harness.ts';

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
      // Until the stream of changes is open, no run is silent.
      await page.getByTitle('Live', { exact: true }).waitFor();
      expect(await statusOf(page)).toBe('Running');
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

/** The desktop of a reader: a notification replaces the notification with the same tag. */
class Desktop {
  readonly shown = new Map<string, string>();

  /** Replaces the notifications of all pages that are loaded from now on. */
  static async of(page: Page): Promise<Desktop> {
    const desktop = new Desktop();
    const context = page.context();
    await context.exposeBinding('show', (_, tag: string, title: string) =>
      desktop.shown.set(tag, title),
    );
    await context.exposeBinding('hide', (_, tag: string) => desktop.shown.delete(tag));
    await context.addInitScript(() => {
      const place = globalThis as unknown as {
        refuses?: boolean;
        show: (tag: string, title: string) => void;
        hide: (tag: string) => void;
      };
      let untagged = 0;
      class Shown extends EventTarget {
        static permission = 'granted';
        static requestPermission = () => Promise.resolve('granted');
        readonly tag: string;
        constructor(title: string, { tag }: NotificationOptions = {}) {
          super();
          // As the browsers of phones do.
          if (place.refuses) throw new TypeError('Illegal constructor');
          untagged += 1;
          this.tag = tag ?? `no tag ${Math.random()} ${untagged}`;
          place.show(this.tag, title);
        }
        close(): void {
          place.hide(this.tag);
        }
      }
      Object.assign(globalThis, { Notification: Shown });
    });
    await page.reload();
    return desktop;
  }
}

async function createNamed(id: string, name: string): Promise<void> {
  await publish(site.server, id, [
    { kind: { case: 'createRun', value: {} } },
    { kind: { case: 'setRunProperty', value: { name } } },
  ]);
}

function finish(id: string): Promise<void> {
  return publish(site.server, id, [{ kind: { case: 'finishRun', value: {} } }]);
}

async function choose(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Notify me at the end', exact: true }).click();
}

async function chosen(page: Page): Promise<void> {
  await page.getByText('The browser will tell you').waitFor();
}

async function setRefusal(page: Page, refuses: boolean): Promise<void> {
  await page.evaluate(refuses => Object.assign(globalThis, { refuses }), refuses);
}

test('the browser notifies at the end of a chosen run, once, in all tabs', async () => {
  const id = 'n071ce'.padEnd(24, '0');
  const other = '07e5'.padEnd(24, '0');
  await createNamed(id, 'long training');
  await createNamed(other, 'nobody asked');
  await site.visit(`/runs/${id}`, async visit => {
    const { page } = visit;
    const desktop = await Desktop.of(page);
    await choose(page);
    await chosen(page);
    // The name of the button stays, because its state says that it is pressed.
    const button = page.getByRole('button', { name: 'Notify me at the end', exact: true });
    expect(await button.getAttribute('aria-pressed')).toBe('true');
    const second = await Visit.inContext(
      await page.context().newPage(),
      site.server,
      `/runs/${other}`,
    );
    await eventually('it runs', async () => (await statusOf(second.page)) === 'Running');
    await finish(other);
    await eventually('it has ended', async () => (await statusOf(second.page)) === 'Ended');
    await eventually('the first tab is there', async () => (await statusOf(page)) === 'Running');
    await untilNotified(second.page, () => untilNotified(page, () => finish(id)));
    await eventually('it is shown', () => desktop.shown.size > 0);
    expect([...desktop.shown.values()]).toEqual(['long training has ended']);
    // A second tab that sees the end at the same moment replaces it.
    expect([...desktop.shown.keys()][0]).toContain(id);
    desktop.shown.clear();
    await page.reload();
    await visit.quiet();
    expect(desktop.shown.size).toBe(0);
    expect(second.errors).toEqual([]);
  });
});

test('a run that comes back from the bin is still followed', async () => {
  const id = 'b4c4'.padEnd(24, '0');
  const { query } = site.server.addresses;
  const server = createClient(RunService, createGrpcWebTransport({ baseUrl: query }));
  await createNamed(id, 'saved training');
  await site.visit(`/runs/${id}`, async ({ page }) => {
    const desktop = await Desktop.of(page);
    await choose(page);
    await chosen(page);
    await go(page, '/metrics?q=vit', 'section canvas.base');
    await untilNotified(page, () => server.binBatch({ runIds: [id] }));
    await untilNotified(page, () => server.restoreBatch({ runIds: [id] }));
    await finish(id);
    await eventually('it is shown', () => desktop.shown.size > 0);
    expect([...desktop.shown.values()]).toEqual(['saved training has ended']);
  });
});

test('a browser without notifications says so, and a page shows what it refuses', async () => {
  const id = 'f07e'.padEnd(24, '0');
  await createNamed(id, 'phone training');
  await site.visit(`/runs/${id}`, async ({ page }) => {
    const desktop = await Desktop.of(page);
    await setRefusal(page, true);
    await choose(page);
    await page.getByText('only from installed apps').waitFor();
    expect(
      await page.getByRole('button', { name: 'Notify me at the end' }).getAttribute('aria-pressed'),
    ).toBe('false');
    await setRefusal(page, false);
    await choose(page);
    await chosen(page);
    await setRefusal(page, true);
    await finish(id);
    await page.locator('.toasts').getByText('phone training has ended').waitFor();
    expect(desktop.shown.size).toBe(0);
    // The stream of changes goes on.
    await eventually('the page follows', async () => (await statusOf(page)) === 'Ended');
    expect(await page.getByTitle('Live', { exact: true }).count()).toBe(1);
  });
});

test('a page shows what the browser must not show any more', async () => {
  const id = '4e70'.padEnd(24, '0');
  await createNamed(id, 'private training');
  await site.visit(`/runs/${id}`, async ({ page }) => {
    const desktop = await Desktop.of(page);
    await choose(page);
    await chosen(page);
    // The permission was taken back in the settings of the browser.
    await page.evaluate(() => Object.assign(Notification, { permission: 'denied' }));
    await finish(id);
    await page.locator('.toasts').getByText('private training has ended').waitFor();
    expect(desktop.shown.size).toBe(0);
  });
});
