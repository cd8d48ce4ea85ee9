/** Fills a data directory before all tests in the browser. The server of each file starts with a copy of it. */
import type { TestProject } from 'vitest/node';

import { CHROMIUM } from './chromium.ts';
import { Project, Server } from './harness.ts';

export default async function fill(tests: TestProject): Promise<(() => Promise<void>) | undefined> {
  if (!CHROMIUM) {
    if (process.env.REQUIRE?.split(',').includes('browser'))
      throw new Error('REQUIRE=browser, but Chromium is not on the PATH');
    console.warn(
      'Chromium is not on the PATH: tests in the browser are skipped; `apt-get install chromium`',
    );
    return undefined;
  }
  const server = await Server.start();
  try {
    tests.provide('filled', { data: server.data, runs: await Project.fill(server) });
    await server.stop();
  } catch (error) {
    await server.remove();
    throw error;
  }
  return () => server.remove();
}
