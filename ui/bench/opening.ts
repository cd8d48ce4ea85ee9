/** The cost of opening a page. */
import type { CDPSession, Page } from 'playwright-core';

import { usage } from '../tests/harness.ts';
import type { Row } from './report.ts';

/** Opens a page as a browser that has nothing in its cache; returns milliseconds and kilobytes until it is shown. */
export async function opened(
  session: CDPSession,
  name: string,
  page: Page,
  url: string,
  ready: () => Promise<void>,
): Promise<Row> {
  let bytes = 0;
  const count = ({ encodedDataLength }: { encodedDataLength: number }): void =>
    void (bytes += encodedDataLength);
  await session.send('Network.clearBrowserCache');
  session.on('Network.loadingFinished', count);
  const start = performance.now();
  await page.goto(url);
  await ready();
  const ms = performance.now() - start;
  await page.waitForTimeout(300);
  session.off('Network.loadingFinished', count);
  return [name, ms, bytes / 1_000, (await usage(session)).JSHeapUsedSize / 1e6];
}
