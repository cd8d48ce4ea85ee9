/** The parts of a run beyond its charts, and what a reader changes about it, in Chromium against the real server. */
import { readFile } from 'node:fs/promises';

import { fromBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { readable } from '../src/format/number.ts';
import {
  BucketsRequestSchema,
  SeriesService,
  type BucketsRequest,
} from '../src/gen/matyan/series/v1/series_pb.ts';
import { eventually, findings, go, held, publish, Site, tabTo, untilNotified } from './harness.ts';

let site: Site;
beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

const studio = (tab: string): string => `/runs/${site.runs.studio}?tab=${tab}`;

describe('every tab', () => {
  const tabs: [tab: string, ready: string][] = [
    ['terminal', '.printed span:text-is("info")'],
    ['logs', '.message button'],
    ['artifacts', '[role=rowheader] button'],
    ['artifacts&file=config.json', '.printed:has-text("onerror")'],
    ['artifacts&file=readme.md', 'article h2:text-is("A model")'],
    ['artifacts&file=outputs%2Ffinal%2Ftable.csv', '[role=columnheader]:has-text("note")'],
    ['artifacts&file=outputs%2Ffinal%2Fchange.diff', '.printed.added'],
    ['artifacts&file=outputs%2Ffinal%2Ffinal.png', 'canvas[data-drawn]'],
    ['artifacts&file=outputs%2Ffinal%2Fevil.svg', '.printed:has-text("onload")'],
    ['artifacts&file=outputs%2Ffinal%2Fweights.bin', 'h2:text-is("No preview")'],
    ['system', 'section h2'],
    ['environment', '[role=rowheader]:has-text("torch")'],
    ['overview', 'dl code'],
  ];
  for (const theme of ['light', 'dark'] as const) {
    test.each(tabs)(
      `%s opens without errors and without findings, ${theme}`,
      async (tab, ready) => {
        await site.visit(
          studio(tab),
          async visit => {
            await visit.page.waitForSelector(ready);
            await visit.shot(`run-${tab.replace(/\W+/g, '-')}-${theme}`);
            expect(await findings(visit.page)).toEqual([]);
          },
          { theme },
        );
      },
    );
  }
});

test('a name that is changed back elsewhere is shown', async () => {
  const id = site.runs.hashes[11]!;
  await site.visit(`/runs/${id}`, async ({ page }) => {
    const name = page.getByRole('button', { name: /^Name of the run/ });
    const before = (await name.textContent())!.trim();
    await page.waitForSelector('.stream:has-text("Live")');
    await untilNotified(page, async () => {
      await name.click();
      await page.keyboard.type('another name');
      await page.keyboard.press('Enter');
      await name.filter({ hasText: 'another name' }).waitFor();
    });
    await publish(site.server, id, [{ kind: { case: 'setRunProperty', value: { name: before } } }]);
    await name.filter({ hasText: before }).waitFor();
  });
});

test('a chart is not kept from reading by points that arrive', async () => {
  await site.visit(`/runs/${site.runs.live}?m=loss`, async visit => {
    const { page } = visit;
    const reads = (): number => visit.calls.filter(call => call === 'SeriesService/Buckets').length;
    await page.waitForSelector('canvas.base[data-series="1"]');
    await page.waitForSelector('.stream:has-text("Live")');
    const release = await held(page, 'SeriesService/Buckets');
    await visit.quiet();
    const before = reads();
    await site.project.track(20.5);
    await eventually('the chart is read', () => reads() > before);
    for (const value of [21.5, 22.5]) await untilNotified(page, () => site.project.track(value));
    expect(reads()).toBe(before + 1);
    await release();
    // The later points are read afterwards.
    await page.waitForSelector('.legend b:text-is("22.5")');
  });
});

test('a chart that is touched while the page is scrolled is not left hovered', async () => {
  await site.visit(
    '/metrics?m=loss',
    async ({ page }) => {
      await page.waitForSelector('canvas.base[data-series]:not([data-series="0"])');
      const chart = page.locator('.pointer').first();
      const box = (await chart.boundingBox())!;
      const x = box.x + box.width / 2;
      const y = box.y + box.height / 2;
      await page.mouse.move(x, y);
      await page.mouse.down();
      const tooltip = page.locator('.tooltip');
      await tooltip.waitFor();
      // There is no room for the tooltip at the left or right.
      const over = (await tooltip.boundingBox())!;
      expect(x > over.x && x < over.x + over.width).toBe(true);
      expect(y > over.y && y < over.y + over.height).toBe(false);
      await chart.dispatchEvent('pointercancel');
      await tooltip.waitFor({ state: 'detached' });
    },
    { width: 390, height: 844 },
  );
});

test('series that are renamed, cut and deleted change on open pages, too', async () => {
  const id = site.runs.hashes[9];
  await site.visit(`/runs/${id}?m=r`, async ({ page, base }) => {
    const edit = async (action: string, series: object): Promise<void> => {
      const url = `${base}/api/v1/rest/runs/${id}/series/${action}/`;
      const answer = await page.request.post(url, { data: { type: 'metric', ...series } });
      expect(answer.ok()).toBe(true);
    };
    const titles = (...expected: string[]): Promise<unknown> =>
      eventually(
        String(expected),
        async () => String(await page.locator('section h2').allTextContents()) === String(expected),
      );
    const last = (step: number): Promise<unknown> => {
      const value = readable(5e-4 * (1 + Math.cos((step / 300) * Math.PI)));
      return page.waitForSelector(`section[aria-label=lr] .legend b:text-is("${value}")`);
    };
    await titles('accuracy', 'grad_norm', 'lr');
    await last(299);
    await page.waitForSelector('.stream:has-text("Live")');
    await edit('delete', { name: 'lr', start: 150, stop: 1_000 });
    await last(149);
    await edit('rename', { name: 'grad_norm', new_name: 'gradient' });
    await titles('accuracy', 'gradient', 'lr');
    await edit('delete', { name: 'lr' });
    await titles('accuracy', 'gradient');
    expect(await page.locator('[role=alert]').count()).toBe(0);
  });
});

test('only what has changed is read again, and points that are logged before others are shown', async () => {
  const id = 'cafe'.repeat(6);
  const log = (series: number, steps: number[], value: number): Promise<void> =>
    publish(site.server, id, [], {
      series: [{ name: 'first' }, { name: 'second' }],
      points: [
        {
          series: steps.map(() => series),
          steps: steps.map(BigInt),
          values: steps.map(() => value),
        },
      ],
    });
  await publish(site.server, id, [{ kind: { case: 'createRun', value: {} } }]);
  for (const series of [0, 1]) await log(series, [...Array(100).keys()], 0);
  await site.visit(`/runs/${id}`, async visit => {
    const { page } = visit;
    const shows = (value: string): Promise<unknown> =>
      page.waitForSelector(`section[aria-label=first] .legend b:text-is("${value}")`);
    const lists = (): number => visit.calls.filter(call => call === 'SeriesService/List').length;
    const reads = (): BucketsRequest[] => visit.requests(SeriesService.method.buckets);
    /** Whether the line reaches the top of the chart in its middle. */
    const isHigh = (): Promise<boolean> =>
      page.locator('section[aria-label=first] canvas.base').evaluate(canvas => {
        const { width, height } = canvas as HTMLCanvasElement;
        const part = [width / 3, 0, width / 3, height / 5] as const;
        const { data } = (canvas as HTMLCanvasElement).getContext('2d')!.getImageData(...part);
        return data.some((blue, at) => at % 4 === 2 && Math.abs(blue - (data[at - 2] ?? 0)) > 60);
      });
    await shows('0');
    await page.waitForSelector('.stream:has-text("Live")');
    // The first change of a run does not say which series it concerns.
    await log(0, [100], 0.25);
    await shows('0.25');
    await eventually('the list was read again', () => lists() > 1);
    await visit.quiet();
    const listsBefore = lists();
    const readsBefore = reads().length;
    await log(0, [101], 0.5);
    await shows('0.5');
    await visit.quiet();
    const read = reads().slice(readsBefore);
    expect(new Set(read.flatMap(({ runs }) => runs.flatMap(({ numbers }) => numbers)))).toEqual(
      new Set([0]),
    );
    expect(lists()).toBe(listsBefore);
    expect(await isHigh()).toBe(false);
    await log(0, [50], 7);
    await eventually('the point is shown', isHigh);
  });
});

test('charts that come into view are read by one call, and one that fails breaks no other', async () => {
  const id = 'feed'.repeat(6);
  const names = [...Array(8).keys()].map(number => `metric${number}`);
  const points = names.map((_, at) => ({ series: [at, at], steps: [0n, 1n], values: [0, at] }));
  const series = names.map(name => ({ name }));
  await publish(site.server, id, [{ kind: { case: 'createRun', value: {} } }], { series, points });
  await site.visit('/runs', async visit => {
    const { page } = visit;
    const drawn = page.locator('canvas.base[data-series="1"]');
    const numbersOf = (body: Uint8Array): number[] =>
      fromBinary(BucketsRequestSchema, body.subarray(5)).runs.flatMap(({ numbers }) => numbers);
    await page.route('**/*.SeriesService/Buckets', async route => {
      const isBad = numbersOf(route.request().postDataBuffer()!).includes(3);
      await (isBad ? route.fulfill({ status: 503 }) : route.continue());
    });
    await go(page, `/runs/${id}`, 'canvas.base');
    await eventually(
      'all others are drawn',
      async () => (await drawn.count()) === names.length - 1,
    );
    // It says so in its place, and the message has the same retry.
    const failed = page.locator('section[aria-label=metric3] .waiting');
    await failed.getByText('Could not be read').waitFor();
    await page.locator('.toast button:has-text("Retry")').waitFor();
    expect(await page.getByText('Could not be read').count()).toBe(1);
    expect(await findings(page)).toEqual([]);
    await page.unroute('**/*.SeriesService/Buckets');
    await failed.getByRole('button', { name: 'Retry' }).click();
    await failed.waitFor({ state: 'detached' });
    await eventually(
      'so is the one that failed',
      async () => (await drawn.count()) === names.length,
    );
    const read = visit
      .requests(SeriesService.method.buckets)
      .map(one => one.runs[0]!.numbers.length);
    // The first call read all metrics.
    expect(read).toEqual([names.length, ...names.map(() => 1), 1]);
    expect(visit.errors.splice(0).every(text => /503/.test(text))).toBe(true);
    // The epochs of all charts are one call too.
    await page.goto(`${visit.base}/runs/${id}?x=epoch`);
    const empty = page.getByText('No epochs were tracked');
    await eventually('epochs are read', async () => (await empty.count()) === names.length);
    await visit.quiet();
    const sampled = visit.requests(SeriesService.method.sample);
    expect(sampled.map(one => one.runs[0]!.numbers.length)).toEqual([names.length]);
  });
});

test('a failure moves nothing on the page of a run', async () => {
  await site.visit(`/runs/${site.runs.live}`, async ({ page, errors }) => {
    await page.waitForSelector('canvas.base');
    await page.waitForSelector('.stream:has-text("Live")');
    const top = async (): Promise<number> => (await page.locator('canvas.base').boundingBox())!.y;
    const before = await top();
    await page.route('**/*.SeriesService/List', route => route.fulfill({ status: 503 }));
    await site.project.track(0.5);
    await page.waitForSelector('[role=alert] button:has-text("Retry")');
    expect(await top()).toBe(before);
    await page.unroute('**/*.SeriesService/List');
    await page.click('[role=alert] button:has-text("Retry")');
    await page.waitForSelector('[role=alert]', { state: 'detached' });
    expect(errors.splice(0).every(text => text.includes('503'))).toBe(true);
  });
});

test('artifacts are chosen by keyboard, and their folders closed', async () => {
  await site.visit(studio('artifacts'), async ({ page }) => {
    await page.waitForSelector('[role=rowheader] button');
    const rows = page.locator('[role=rowheader]');
    const before = await rows.count();
    await tabTo(page, '[role=rowheader] button[aria-expanded=true]');
    const folder = page.locator(':focus');
    await page.keyboard.press('Enter');
    await eventually('it is closed', async () => (await rows.count()) < before);
    expect(await folder.getAttribute('aria-expanded')).toBe('false');
    await page.keyboard.press('Enter');
    await eventually('it is open again', async () => (await rows.count()) === before);
    const file = rows.filter({ hasText: 'table.csv' }).getByRole('button');
    for (let stop = 0; !(await file.evaluate(one => one === document.activeElement)); stop++) {
      expect(stop).toBeLessThan(before);
      await page.keyboard.press('Tab');
    }
    await page.keyboard.press('Enter');
    await page.waitForSelector('[role=columnheader]:has-text("note")');
    expect(await file.getAttribute('aria-current')).toBe('true');
  });
});

test('two tables are side by side, and their differences are marked', async () => {
  await site.visit(studio('artifacts&file=predictions_1.table.json'), async visit => {
    const { page } = visit;
    await page.getByRole('button', { name: 'Compare', exact: true }).click();
    const dialog = page.getByRole('dialog', { name: 'Compare with another table' });
    // The table of another step comes first; other runs can be searched.
    const tables = dialog.getByRole('list', { name: 'Tables' }).getByRole('listitem');
    expect(await tables.first().locator('span').textContent()).toBe('predictions_2.table.json');
    await dialog.getByRole('list', { name: 'Runs that were found' }).waitFor();
    expect(await findings(page)).toEqual([]);
    await tables.first().getByRole('button').press('Enter');
    await page.waitForURL(/other=/);
    const cells = async (): Promise<string[]> => {
      const rows = page.locator('.preview .row:not(.head)');
      const all = await rows.evaluateAll(each =>
        each.map(row => [...row.querySelectorAll('[role=cell]')].map(cell => cell.textContent)),
      );
      return all.map(texts => texts.map(text => text.trim()).join(' '));
    };
    const DIFFERENT = ['1 dog <b>owl</b>', '2  fish'];
    await eventually(
      'they are joined',
      async () => (await cells()).join() === ['0 cat cat', ...DIFFERENT].join(),
    );
    await page.getByText('1 differ, 1 only in B').waitFor();
    expect(await page.locator('mark').allTextContents()).toEqual([
      'dog',
      '<b>owl</b>',
      '2',
      'fish',
    ]);
    await page.getByRole('checkbox', { name: 'Differences only' }).check();
    await eventually(
      'equal rows are left out',
      async () => (await cells()).join() === DIFFERENT.join(),
    );
    await visit.shot('run-tables-joined');
    expect(await findings(page)).toEqual([]);
    await page.getByRole('combobox', { name: 'Key' }).selectOption('label');
    await page.waitForURL(/key=label/);
    await page.getByRole('button', { name: 'Leave the comparison' }).click();
    await page.getByRole('button', { name: 'Compare', exact: true }).waitFor();
  });
});

test('an artifact is downloaded as it was logged', async () => {
  await site.visit(studio('artifacts&file=outputs%2Ffinal%2Fweights.bin'), async ({ page }) => {
    const waiting = page.waitForEvent('download');
    await page.click('section a:has-text("Download")');
    const download = await waiting;
    expect(download.suggestedFilename()).toBe('weights.bin');
    const content = await readFile(await download.path());
    expect(content).toEqual(Buffer.from(Array.from({ length: 256 * 40 }, (_, at) => at % 256)));
  });
});

test('name, description, tags, experiment and archive are changed in place', async () => {
  const id = site.runs.hashes[11] as string;
  await site.visit(`/runs/${id}?tab=overview`, async visit => {
    const { page } = visit;
    await page.click('h1 button');
    await page.fill('h1 input', 'renamed <b>run</b>');
    await page.keyboard.press('Enter');
    await page.waitForSelector('h1:has-text("renamed <b>run</b>")');
    await page.click('button[aria-label^="Description of the run"]');
    await page.fill(
      'textarea',
      'first\n**second** [x](javascript:alert(1)) <b>third</b>\n\n```chart\nmetric: loss\n```',
    );
    await page.keyboard.press('Control+Enter');
    await page.waitForSelector('article strong:text-is("second")');
    expect(await page.locator('article').textContent()).toContain('<b>third</b>');
    expect(await page.locator('article :is(a, b, canvas)').count()).toBe(0);
    await page.click('button[aria-label="Add a tag"]');
    await page.fill('dialog[open] input', 'fresh');
    expect(await findings(page)).toEqual([]);
    await visit.shot('run-add-tag');
    await page.keyboard.press('Enter');
    await page.waitForSelector('button[aria-label="Remove the tag fresh"]');
    await page.click('button[aria-label="Remove the tag fresh"]');
    await page.waitForSelector('button[aria-label="Remove the tag fresh"]', { state: 'detached' });
    await page.click('button[aria-label="Actions for the run"]');
    await page.click('[role=menuitem]:has-text("Move")');
    await page.fill('dialog[open] input', 'another experiment');
    await page.keyboard.press('Enter');
    await page.waitForSelector('dd a:has-text("another experiment")');
    await page.click('button[aria-label="Actions for the run"]');
    await page.click('[role=menuitem]:has-text("Archive")');
    await page.waitForSelector('.archived');
    await page.click('button[aria-label="Actions for the run"]');
    await page.click('[role=menuitem]:has-text("Take out")');
    await page.waitForSelector('.archived', { state: 'detached' });
    await page.reload();
    await page.waitForSelector('h1:has-text("renamed <b>run</b>")');
    await page.waitForSelector('article strong:text-is("second")');
  });
});

test.each(['tag', 'experiment'])('a %s is changed and deleted in its list', async kind => {
  await site.visit(`/${kind}s`, async visit => {
    const { page, base } = visit;
    const created = await page.request.post(`${base}/api/v1/rest/${kind}s`, {
      data: { name: `old ${kind}` },
    });
    expect(created.ok()).toBe(true);
    await page.reload();
    await page.click(`button[aria-label="Edit old ${kind}"]`);
    const dialog = page.locator('dialog[open]');
    await dialog.getByLabel('Name').fill(`new ${kind}`);
    await dialog.getByLabel('Description').fill('of a test');
    if (kind === 'tag') await dialog.getByLabel('Color').fill('#123456');
    expect(await findings(page)).toEqual([]);
    await visit.shot(`${kind}-edit`);
    await dialog.getByRole('button', { name: 'Save' }).click();
    const row = page.locator(`[role=row]:has-text("new ${kind}"):has-text("of a test")`);
    await row.waitFor();
    const dots = row.locator('.dot');
    const colors = await dots.evaluateAll(all =>
      all.map(dot => getComputedStyle(dot).backgroundColor),
    );
    expect(colors).toEqual(kind === 'tag' ? ['rgb(18, 52, 86)'] : []);
    await page.click(`button[aria-label="Edit new ${kind}"]`);
    await dialog.getByRole('button', { name: 'Delete…' }).click();
    await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
    await row.waitFor({ state: 'detached' });
    await page.reload();
    await page.waitForSelector('[role=row]');
    expect(await row.count()).toBe(0);
  });
});

test('notes are added, changed and deleted, and no change of somebody else is lost', async () => {
  const path = `/runs/${site.runs.hashes[8]}?tab=overview`;
  await site.visit(path, async visit => {
    const { page } = visit;
    const notes = page.locator('section[aria-labelledby=notes]');
    const write = async (field: RegExp, text: string): Promise<void> => {
      await notes.getByRole('button', { name: field }).click();
      await notes.getByRole('textbox').fill(text);
      await page.keyboard.press('Control+Enter');
      await notes.getByRole('textbox').waitFor({ state: 'detached' });
    };
    await write(/^New note/, 'The **best** one so far');
    await notes.locator('strong:text-is("best")').waitFor();
    await notes.getByRole('button', { name: /^New note: Add/ }).waitFor();
    await write(/^New note/, '<b>second</b>');
    await notes.locator('.markdown:has-text("<b>second</b>")').waitFor();
    await visit.shot('run-notes');
    expect(await findings(page)).toEqual([]);
    await notes.getByRole('button', { name: /^Note: The/ }).click();
    await site.visit(path, async other => {
      const own = other.page.locator('section[aria-labelledby=notes]');
      await own.getByRole('button', { name: /^Note: The/ }).click();
      await own.getByRole('textbox').fill('Worse than it was');
      await other.page.keyboard.press('Control+Enter');
      await own.locator('.markdown:has-text("Worse")').waitFor();
      await own.getByRole('button', { name: /^New note/ }).click();
      await own.getByRole('textbox').fill('From a colleague');
      await other.page.keyboard.press('Control+Enter');
      await own.locator('.markdown:has-text("From a colleague")').first().waitFor();
    });
    // It appears by itself, and what is being written stays.
    await notes.locator('.markdown:has-text("From a colleague")').waitFor();
    await notes.getByRole('textbox').fill('Still the best');
    await page.keyboard.press('Control+Enter');
    await page.getByText('Someone else has changed it').waitFor();
    expect(await notes.getByRole('textbox').inputValue()).toBe('Still the best');
    expect(visit.errors.splice(0).every(text => /40\d|Failed to load/.test(text))).toBe(true);
    await page.keyboard.press('Escape');
    await write(/^Note: Worse/, '');
    await write(/^Note: From/, '');
    await eventually(
      'one note is left',
      async () => (await notes.locator('.markdown').count()) === 1,
    );
    expect(await notes.textContent()).toContain('second');
  });
});

test('a tab of a run reads what it shows only', async () => {
  const path = `/runs/${site.runs.live}?tab=`;
  await site.visit(`${path}logs`, async ({ page, calls }) => {
    await page.waitForSelector('.stream:has-text("Live")');
    const other = await page.context().newPage();
    await other.goto(`${site.server.addresses.query}${path}metrics`);
    const seen = async (value: number): Promise<void> => {
      await site.project.track(value);
      await other.waitForSelector(`.legend b:text-is("${value}")`, { state: 'attached' });
    };
    // The first change of a stream does not say what has changed.
    await seen(0.8);
    const read = (): number => calls.filter(call => call === 'LogService/Records').length;
    await eventually('records are read again', () => read() > 1);
    const before = read();
    for (const value of [0.6, 0.4]) await seen(value);
    expect(read()).toBe(before);
  });
});

test('parts of a run that have nothing in them are in a menu', async () => {
  await site.visit(`/runs/${site.runs.spike}`, async visit => {
    const { page } = visit;
    const tabs = page.getByRole('tab');
    await tabs.first().waitFor();
    const names = (await tabs.allTextContents()).map(name => name.trim());
    expect(names).toContain('Metrics');
    for (const name of ['Logs', 'Media', 'System', 'Environment', 'Git diff'])
      expect(names).not.toContain(name);
    await page.getByRole('button', { name: 'Empty parts of the run' }).click();
    await visit.shot('run-empty-parts');
    expect(await findings(page)).toEqual([]);
    await page.getByRole('menuitem', { name: 'Logs' }).click();
    await page.getByText('No log records').waitFor();
    // A tab that was open stays where it is.
    await page.getByRole('tab', { name: 'Metrics' }).click();
    await page.getByRole('tab', { name: 'Logs', selected: false }).waitFor();
  });
});

test('the overview has the last and the best values of results', async () => {
  await site.visit(`/runs/${site.runs.hashes[5]}?tab=overview`, async ({ page }) => {
    const row = page.getByRole('row').filter({ hasText: 'loss val' });
    await row.waitFor();
    const [last, best] = await row.locator('.digits').allTextContents();
    expect(Number(best)).toBeLessThan(Number(last));
    expect(await page.getByRole('row').first().textContent()).toContain('Best');
    // Nothing is known about their meaning.
    expect(await page.getByRole('row').filter({ hasText: 'grad_norm' }).count()).toBe(0);
  });
});

test('a logged text has no live panels', async () => {
  await site.visit(studio('artifacts&file=readme.md'), async ({ page, calls }) => {
    await page.waitForSelector('article pre:has-text("metric: loss")');
    expect(await page.locator('article canvas').count()).toBe(0);
    // The page itself looks for its branches.
    expect(calls.filter(call => call === 'SearchService/Runs').length).toBeLessThanOrEqual(1);
  });
});

test('a run is deleted after a confirmation only', async () => {
  const id = site.runs.hashes[12] as string;
  await site.visit(`/runs/${id}`, async ({ page }) => {
    const choose = async (): Promise<void> => {
      await page.click('button[aria-label="Actions for the run"]');
      await page.click('[role=menuitem]:has-text("Delete")');
      await page.waitForSelector('dialog[open]:has-text("For a week")');
    };
    await choose();
    await page.keyboard.press('Enter');
    await page.waitForSelector('dialog[open]', { state: 'detached' });
    await page.waitForSelector('h1');
    await choose();
    await page.click('dialog[open] button:has-text("Move to the bin")');
    await page.waitForURL(/\/runs$/);
    await eventually('it is gone from the table', async () => {
      await page.goto(`${site.server.addresses.query}/runs/${id}`);
      await page.locator('main :is(h1, h2)').first().waitFor({ state: 'attached' });
      return (await page.textContent('main'))?.includes('deleted');
    });
  });
});

test.each(['light', 'dark'] as const)(
  'params are shown next to those of another run, %s',
  async theme => {
    await site.visit(
      `/runs/${site.runs.hashes[5]}?tab=params`,
      async visit => {
        const { page } = visit;
        await page.waitForSelector('[role=rowheader]');
        const field = page.getByRole('combobox', {
          name: 'Show the difference to a run, by its name',
        });
        await field.fill('sweep 07');
        // Not an option of the list that is shown before anything is typed.
        const option = page.locator(`datalist option[value="${site.runs.hashes[7]}"]:only-child`);
        await option.waitFor({ state: 'attached' });
        await field.fill(site.runs.hashes[7]!);
        // No run has that name.
        await page.locator('datalist option').first().waitFor({ state: 'detached' });
        await page.keyboard.press('Enter');
        await page.waitForURL(/diff=/);
        await page.getByRole('columnheader', { name: 'resnet50 sweep 07' }).waitFor();
        const rows = (): Promise<number> => page.locator('[role=row]:not(.head)').count();
        const different = await rows();
        await visit.shot(`run-params-diff-${theme}`);
        expect(await findings(page)).toEqual([]);
        await page.getByRole('checkbox', { name: 'Only differences' }).uncheck();
        await eventually('equal values are shown', async () => (await rows()) > different);
        expect(await page.locator('.row.chosen').count()).toBeGreaterThan(0);
        await page.getByRole('button', { name: 'Clear' }).press('Enter');
        await eventually(
          'the column is gone',
          async () => (await page.locator('.row.chosen').count()) === 0,
        );
        await field.fill('weep 09');
        await field.press('Enter');
        await page.waitForURL(/diff=/);
        await field.fill('no such name');
        await field.press('Enter');
        await page.getByText('No other run has “no such name” in the name.').waitFor();
      },
      { theme },
    );
  },
);

test('a long text is shown as a whole, in place', async () => {
  await site.visit(`/runs/${site.runs.studio}?tab=params`, async ({ page }) => {
    const cell = page.locator('[role=cell]', { hasText: 'Draw a fox' });
    await cell.waitFor();
    expect(await cell.locator('a').count()).toBe(0);
    await cell.locator('button').press('Enter');
    const text = await page.getByRole('dialog', { name: 'prompt' }).locator('pre').textContent();
    expect(text).toBe('Draw a fox that jumps over a dog. '.repeat(7));
  });
});

test('changes since the last commit are shown', async () => {
  await site.visit(`/runs/${site.runs.studio}?tab=changes`, async visit => {
    const { page } = visit;
    await page.waitForSelector('.added:has-text("+lr = 0.01")');
    await page.waitForSelector('.removed:has-text("-lr = 0.1")');
    expect(await findings(page)).toEqual([]);
    await visit.shot('run-changes');
  });
  await site.visit(`/runs/${site.runs.hashes[0]}?tab=changes`, async ({ page }) => {
    await page.waitForSelector('text=No changes since the last commit');
  });
});

let branch: string | undefined;
test.each(['light', 'dark'] as const)(
  'a run shows its parent, its branches and where they begin, %s',
  async theme => {
    const [parent = ''] = site.runs.hashes;
    branch ??= await site.project.branch();
    const look = async (id: string, fact: string, name: string, marks: number): Promise<void> =>
      site.visit(
        `/runs/${id}?m=/^loss$/`,
        async visit => {
          const { page } = visit;
          await page.waitForSelector(
            `.fact:has(dt:text-is("${fact}")) dd:has-text("from step 99") a:text-is("${name}")`,
          );
          await page.locator('.pointer').first().hover();
          await page.waitForSelector(
            '.tooltip p:has-text("branch of a sweep branches from vit-small / trial 00 after step 99")',
          );
          expect(await page.locator('.tooltip .fork').count()).toBe(marks);
          await visit.shot(`run-${fact.replace(' ', '-')}-${theme}`);
          expect(await findings(page)).toEqual([]);
        },
        { theme },
      );
    await look(branch, 'Branch of', 'vit-small / trial 00', 1);
    await look(parent, 'Branches', 'branch of a sweep', 1);
  },
);
