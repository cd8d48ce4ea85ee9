/** Nothing grows while a page is used: neither the heap, nor the elements, nor the listeners, nor the open calls. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { go, launch, Project, Server, usage, Visit, type ProjectRuns } from './harness.ts';

let browser: Browser;
let server: Server;
let project: Project;
let runs: ProjectRuns;

beforeAll(async () => {
  [browser, server] = await Promise.all([launch(), Server.start()]);
  [project, runs] = await Project.log(server);
});

afterAll(async () => {
  await project?.end();
  await browser?.close();
  await server?.remove();
});

test('eighty page changes and fifty live points leave the page as it was', async () => {
  const visit = await Visit.open(browser, server, '/runs');
  const { page } = visit;
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable');
  const tour = async (rounds: number): Promise<void> => {
    for (let round = 0; round < rounds; round++) {
      await go(page, '/runs', '[role=row] a');
      await go(page, `/runs/${runs.hashes[round % 60]}`, 'section h2');
      await go(page, '/metrics?m=loss', 'section h2');
      await go(page, `/runs/${runs.hashes[round % 60]}?tab=params`, '[role=rowheader]');
    }
    await go(page, '/tags', '[role=cell]');
  };
  await tour(5);
  await visit.quiet();
  const before = await usage(session);
  await tour(20);
  await go(page, `/runs/${runs.live}`, 'section h2');
  for (let point = 0; point < 50; point++) await project.track(point);
  await page.locator('.legend b:text-is("49")').first().waitFor();
  await go(page, '/tags', '[role=cell]');
  await visit.quiet();
  const after = await usage(session);
  console.info(
    JSON.stringify({ before, after: { ...after } }, [
      'before',
      'after',
      'Nodes',
      'JSEventListeners',
      'JSHeapUsedSize',
    ]),
  );
  expect(after.Nodes).toBeLessThan(1.3 * before.Nodes + 500);
  expect(after.JSEventListeners).toBeLessThan(1.3 * before.JSEventListeners + 50);
  expect(after.JSHeapUsedSize).toBeLessThan(before.JSHeapUsedSize + 8e6);
  await visit.close();
});
