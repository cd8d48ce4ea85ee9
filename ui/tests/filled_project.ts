/** Fills a data directory before all tests in the browser. The server of each file starts with a copy of it. */
import type { TestProject } from 'vitest/node';

import { CHROMIUM } from './chromium.ts';
import { Project, Server } from './harness.ts';

export default async function fill(tests: TestProject): Promise<(() => Promise<void>) | undefined> {
  if (!CHROMIUM) return undefined;
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
