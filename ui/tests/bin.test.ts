/** The bin: its page, and runs that cannot be moved there. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { createClient, type Client } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

import {
  BinBatchRequestSchema,
  BinBatchResponseSchema,
  RunService,
} from '../src/gen/matyan/runs/v1/runs_pb.ts';
import {
  eventually,
  findings,
  matchCount,
  publish,
  Site,
  untilNotified,
  type Visit,
} from './harness.ts';

/** A flag and the length of the message, before each message of gRPC-web. */
const FRAME_HEAD_BYTES = 5;
const TRAILERS = 0x80;
const HOUR = 3_600_000;

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site?.close());
/** The next test starts with an empty bin. */
afterEach(async () => {
  for await (const { runs } of server().listBin({})) {
    const runIds = runs.map(({ run }) => run?.runId ?? '');
    if (runIds.length > 0) await server().deleteBatch({ runIds });
  }
});

function server(): Client<typeof RunService> {
  const { query } = site.server.addresses;
  return createClient(RunService, createGrpcWebTransport({ baseUrl: query }));
}

/** Creates runs whose names start with a word, and returns their ids. */
async function createRuns(word: string, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let number = 0; number < count; number += 1) {
    const id = word.padEnd(20, 'x') + String(number).padStart(4, '0');
    const name = `${word} ${number}`;
    await publish(site.server, id, [
      { kind: { case: 'createRun', value: {} } },
      { kind: { case: 'setRunProperty', value: { name } } },
    ]);
    ids.push(id);
  }
  const query = `run.name.startswith("${word} ")`;
  await eventually('they are found', async () => (await matchCount(site.server, query)) === count);
  return ids;
}

async function countOf(page: Page): Promise<string> {
  return (await page.locator('.page-head [role=status]').textContent()) ?? '';
}

function listed(visit: Visit): number[] {
  return visit.requests(RunService.method.listBin).map(({ limit }) => limit);
}

test('a large bin is read as far as the reader scrolls, and emptied as a whole', async () => {
  const runIds = await createRuns('many', 230);
  await server().binBatch({ runIds });
  await site.visit('/bin', async visit => {
    const { page } = visit;
    const table = page.getByRole('table', { name: 'Runs in the bin' });
    await table.waitFor();
    expect(await countOf(page)).toBe('More than 200');
    expect(listed(visit)).toEqual([200]);
    await table.evaluate(element => element.scrollTo(0, element.scrollHeight));
    await eventually('the others are there', async () => (await countOf(page)) === '230');
    expect(listed(visit)).toEqual([200, 400]);
    await page.reload();
    await table.waitFor();
    await page.getByRole('button', { name: 'Empty the bin…' }).click();
    const dialog = page.getByRole('dialog', { name: 'Delete all runs in the bin for good?' });
    expect(await findings(page)).toEqual([]);
    await dialog.getByRole('button', { name: 'Delete for good' }).click();
    await page.getByRole('heading', { name: 'The bin is empty' }).waitFor();
  });
});

test('the bin is read again if a run comes or goes, and not if any other run changes', async () => {
  const [first, second, third] = await createRuns('few', 3);
  await server().binBatch({ runIds: [first!, second!] });
  await site.visit('/bin', async visit => {
    const { page } = visit;
    // Pauses between reads pass when the test says so.
    await page.clock.install();
    await page.reload();
    await page.getByRole('table', { name: 'Runs in the bin' }).waitFor();
    await visit.quiet();
    const before = listed(visit).length;
    await untilNotified(page, () => site.project.track(0.5));
    await page.clock.runFor(60_000);
    await visit.quiet();
    expect(listed(visit).length).toBe(before);

    // Changes of other runs may arrive before the change of this run.
    const isCount = async (count: string): Promise<boolean> => {
      await page.clock.runFor(2_000);
      return (await countOf(page)) === count;
    };
    await server().binBatch({ runIds: [third!] });
    await eventually('it is there', () => isCount('3'));
    await server().restoreBatch({ runIds: [first!] });
    await eventually('it has left', () => isCount('2'));
  });
});

test.each([-30, 30])('a wrong clock of this machine leaves the time left, %d days', async days => {
  const runIds = await createRuns(`clock${days < 0 ? 'behind' : 'ahead'}`, 1);
  await server().binBatch({ runIds });
  await site.visit('/bin', async ({ page }) => {
    await page.clock.setFixedTime(Date.now() + days * 24 * HOUR);
    await page.reload();
    const row = page.locator('.window [role=row]');
    await row.getByText(/^(6|7) d$/).waitFor();
    expect(await row.count()).toBe(1);
  });
});

test('the keyboard stays on the page when the last row leaves the bin', async () => {
  await server().binBatch({ runIds: await createRuns('keys', 3) });
  await site.visit('/bin', async ({ page }) => {
    const rows = page.locator('.window [role=row]');
    const focused = (): Promise<string> =>
      page.evaluate(() => {
        const { activeElement } = document;
        return activeElement?.getAttribute('aria-label') ?? activeElement?.tagName ?? '';
      });
    await rows.nth(2).waitFor();
    // The last row that was moved there is the first one.
    await rows
      .nth(0)
      .getByRole('button', { name: /^Restore/ })
      .press('Enter');
    await eventually('it has left', async () => (await countOf(page)) === '2');
    expect(await focused()).toMatch(/^Restore keys/);
    await rows
      .nth(1)
      .getByRole('button', { name: /^Restore/ })
      .press('Enter');
    await eventually('the next one has left', async () => (await countOf(page)) === '1');
    await eventually('the heading has the focus', async () => (await focused()) === 'H1');
    await rows
      .nth(0)
      .getByRole('button', { name: /for good$/ })
      .press('Enter');
    const dialog = page.getByRole('dialog', { name: /^Delete keys \d for good\?$/ });
    await dialog.getByRole('button', { name: 'Delete for good' }).press('Enter');
    await page.getByRole('heading', { name: 'The bin is empty' }).waitFor();
    await eventually('the heading has the focus', async () => (await focused()) === 'H1');
  });
});

/** A message, or the trailers, of gRPC-web. */
function frame(flag: number, content: Uint8Array): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_BYTES);
  head[0] = flag;
  head.writeUInt32BE(content.length, 1);
  return Buffer.concat([head, content]);
}

/** Moves of runs to the bin, as on a server that cannot read one of them. */
async function damage(page: Page, damaged: string): Promise<void> {
  await page.route('**/*.RunService/BinBatch', async route => {
    const sent = route.request().postDataBuffer()!.subarray(FRAME_HEAD_BYTES);
    const { runIds } = fromBinary(BinBatchRequestSchema, sent);
    await server().binBatch({ runIds: runIds.filter(id => id !== damaged) });
    const answer = create(BinBatchResponseSchema, { damaged: [damaged] });
    await route.fulfill({
      contentType: 'application/grpc-web+proto',
      body: Buffer.concat([
        frame(0, toBinary(BinBatchResponseSchema, answer)),
        frame(TRAILERS, Buffer.from('grpc-status: 0\r\n')),
      ]),
    });
  });
}

test('a damaged run is named, and deleted for good if the reader wants that', async () => {
  const [, broken] = await createRuns('rusty', 2);
  const query = 'run.name.startswith("rusty ")';
  await site.visit(`/runs?q=${encodeURIComponent(query)}`, async visit => {
    const { page } = visit;
    await damage(page, broken!);
    await page.locator('.window .name a').nth(1).waitFor();
    await page.getByRole('checkbox', { name: 'Select all runs' }).check();
    await page.getByRole('button', { name: 'Actions for the selected runs' }).click();
    await page.getByRole('menuitem', { name: 'Delete', exact: true }).click();
    const dialog = page.getByRole('dialog');
    expect(await dialog.getByRole('heading').textContent()).toBe('Move 2 runs to the bin?');
    await dialog.getByRole('button', { name: 'Move to the bin' }).click();
    await page.getByText('The run is in the bin for a week.').waitFor();
    await dialog.getByText(broken!).waitFor();
    expect(await dialog.getByRole('heading').textContent()).toBe(
      'Delete the damaged run for good?',
    );
    expect(await findings(page)).toEqual([]);
    await visit.shot('bin-damaged');
    await dialog.getByRole('button', { name: 'Delete for good' }).click();
    await dialog.waitFor({ state: 'hidden' });
    const deleted = visit.requests(RunService.method.deleteBatch).map(({ runIds }) => runIds);
    expect(deleted).toEqual([[broken]]);
    await eventually('it is gone', async () => (await matchCount(site.server, query)) === 0);
  });
});
