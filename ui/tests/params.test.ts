/** Parallel coordinates, the scatter plot and the correlations, as a person uses them. */
import { afterAll, beforeAll, expect, test } from 'vitest';

import { encodeCbor } from '../src/api/cbor_writer.ts';
import { RunService } from '../src/gen/matyan/runs/v1/runs_pb.ts';
import { SearchService } from '../src/gen/matyan/search/v1/search_pb.ts';
import {
  eventually,
  findings,
  inSettings,
  publish,
  Site,
  untilNotified,
  type Visit,
} from './harness.ts';

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

const count = (text: string | null): number => Number(/^\d+/.exec(text ?? '')?.[0]);

test('params are brushed by keyboard and pointer, and going back is possible', async () => {
  await site.visit('/params', async visit => {
    const { page } = visit;
    await page.waitForSelector('svg[aria-label^="Parallel"] polyline');
    const status = page.locator('.page-head > [role=status]');
    const all = count(await status.textContent());
    expect(all).toBe(site.runs.hashes.length);
    // The range of an axis by keyboard.
    await page.getByRole('slider', { name: 'Lowest lr' }).focus();
    for (let press = 0; press < 2; press++) await page.keyboard.press('PageUp');
    await page.waitForURL(/brush=/);
    await eventually('fewer runs are inside', async () => count(await status.textContent()) < all);
    await visit.shot('params-brushed');
    expect(await findings(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await eventually('the range is cleared', async () => count(await status.textContent()) === all);
    // The same by pointer.
    const box = (await page.getByRole('slider', { name: 'Highest lr' }).boundingBox())!;
    await page.mouse.move(box.x + 9, box.y + 4);
    await page.mouse.down();
    await page.mouse.move(box.x + 9, box.y + 60, { steps: 4 });
    await page.mouse.up();
    await eventually('a range is set', async () => count(await status.textContent()) < all);
    await page.keyboard.press('0');
    await eventually(
      'all ranges are cleared',
      async () => count(await status.textContent()) === all,
    );
  });
});

test('axes are moved and removed by their menus', async () => {
  await site.visit('/params', async ({ page }) => {
    await page.waitForSelector('.title');
    const titles = (): Promise<string[]> => page.locator('.title .opener').allTextContents();
    const before = await titles();
    await page.locator('.title .opener').first().press('Enter');
    await page.locator('[role=menu] :focus').waitFor();
    await page.getByRole('menuitem', { name: 'Move right' }).press('Enter');
    await page.waitForURL(/axes=/);
    expect(await titles()).toEqual([before[1], before[0], ...before.slice(2)]);
    await page.locator('.title .opener').first().press('Enter');
    await page.locator('[role=menu] :focus').waitFor();
    await page.getByRole('menuitem', { name: 'Remove' }).press('Enter');
    await eventually('an axis less', async () => (await titles()).length === before.length - 1);
    await page.goBack();
    await eventually('it is back', async () => (await titles()).length === before.length);
  });
});

test('axes are moved by drags of their titles, and a click opens their menus', async () => {
  await site.visit('/params', async visit => {
    const { page } = visit;
    await page.waitForSelector('.title');
    const openers = page.locator('.title .opener');
    const before = await openers.allTextContents();
    const boxes = await Promise.all(
      (await openers.all()).map(async one => (await one.boundingBox())!),
    );
    const middle = (at: number): number => boxes[at]!.x + boxes[at]!.width / 2;
    const drag = async (to: number): Promise<void> => {
      await page.mouse.move(middle(0), boxes[0]!.y + 10);
      await page.mouse.down();
      await page.mouse.move(to, boxes[0]!.y + 10, { steps: 8 });
    };
    await drag(middle(2) + 5);
    const order = [before[1], before[2], before[0], ...before.slice(3)];
    // The lines follow the pointer.
    expect(
      await page
        .locator('.lines .handle[aria-label^=Lowest]')
        .evaluateAll(all => all.map(one => one.ariaLabel)),
    ).toEqual(order.map(title => `Lowest ${title?.trim()}`));
    await visit.shot('params-axis-dragged');
    await page.mouse.up();
    await page.waitForURL(/axes=/);
    expect(await openers.allTextContents()).toEqual(order);
    expect(await page.getByRole('menu').count()).toBe(0);
    await page.goBack();
    await eventually(
      'it is back',
      async () => (await openers.allTextContents()).join() === before.join(),
    );
    // Back where it began, nothing has changed.
    await drag(middle(2));
    await page.mouse.move(middle(0), boxes[0]!.y + 10, { steps: 8 });
    await page.mouse.up();
    await openers.first().click();
    await page.getByRole('menuitem', { name: 'Move right' }).waitFor();
    expect(page.url()).not.toContain('axes=');
  });
});

test('a correlation names its runs, and removes and adds the axis of its param', async () => {
  await site.visit('/params?metric=metric%3Aloss+%7B%22subset%22%3A%22val%22%7D', async visit => {
    const { page } = visit;
    const rows = page.getByRole('region', { name: /depends on$/ }).locator('li button');
    await rows.first().waitFor();
    expect(await rows.first().textContent()).toMatch(/[−\d.]+ +\d+ runs/);
    await page.getByRole('slider', { name: 'Lowest layers' }).waitFor();
    await page.getByRole('button', { name: /^layers/ }).press('Enter');
    await eventually(
      'the axis is gone',
      async () => (await page.getByRole('slider', { name: 'Lowest layers' }).count()) === 0,
    );
    await page.getByRole('button', { name: /^layers/ }).click();
    await page.getByRole('slider', { name: 'Lowest layers' }).waitFor();
    await visit.shot('params-axis-added');
  });
});

test('a line names its run, and opens it', async () => {
  await site.visit('/params', async ({ page }) => {
    const low = (await page.getByRole('slider', { name: 'Lowest batch_size' }).boundingBox())!;
    const next = (await page.getByRole('slider', { name: 'Highest lr' }).boundingBox())!;
    const x = (low.x + next.x) / 2;
    for (
      let y = next.y;
      y < low.y && (await page.locator('polyline.hovered').count()) === 0;
      y += 6
    )
      await page.mouse.move(x, y);
    expect(await page.locator('.tip b').first().textContent()).not.toBe('');
    await page.mouse.down();
    await page.mouse.up();
    await page.waitForURL(/\/runs\/\w+(\?|$)/);
  });
});

test('the lines are followed by keyboard, named aloud, and one is opened', async () => {
  await site.visit('/params', async visit => {
    const { page } = visit;
    await page.waitForSelector('polyline');
    await page.keyboard.press('?');
    await page.keyboard.type('plot in focus');
    const keys = page.locator('dialog[open] [role=option]');
    await eventually('the keys are listed', async () => (await keys.count()) === 5);
    await keys.filter({ hasText: 'Next run' }).click();
    const spoken = page.getByRole('main').locator('p[aria-live=polite]');
    await page.locator('polyline.hovered').waitFor();
    const first = await spoken.locator('b').first().textContent();
    await page.keyboard.press('PageDown');
    await eventually(
      'another run',
      async () => (await spoken.locator('b').first().textContent()) !== first,
    );
    for (const _ of Array(11)) await page.keyboard.press('ArrowLeft');
    await eventually(
      'the first',
      async () => (await spoken.locator('b').first().textContent()) === first,
    );
    // A name may be written from right to left, which must not turn the text around it.
    expect(await spoken.locator('b > bdi').count()).toBe(await spoken.locator('b').count());
    await visit.shot('params-line-by-keyboard');
    expect(await findings(page)).toEqual([]);
    // The ends of ranges have their own keys.
    await page.keyboard.press('Tab');
    await page.locator('polyline.hovered').waitFor({ state: 'detached' });
    await page.keyboard.press('PageUp');
    await page.waitForURL(/brush=/);
    expect(await page.locator('polyline.hovered').count()).toBe(0);
    await page.keyboard.press('Shift+Tab');
    await page.keyboard.press('ArrowRight');
    // Runs outside of the range are passed over.
    await page.locator('polyline.hovered').waitFor();
    expect(await spoken.locator('b').first().textContent()).not.toBe('');
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/runs\/\w+(\?|$)/);
  });
});

test.each(['light', 'dark'] as const)(
  'a scatter plot shows trend and correlation, %s',
  async theme => {
    const path = '/params?view=scatter&metric=metric%3Aloss+%7B%22subset%22%3A%22val%22%7D';
    await site.visit(
      path,
      async visit => {
        const { page } = visit;
        await page.waitForSelector('circle.dot');
        const text = await page.locator('.scatter [role=status]').textContent();
        expect(text).toMatch(/Correlation [−\d.]+ +by rank [−\d.]+ +R² [\d.]+ +\d+ runs/);
        // A line that explains little is not drawn.
        const isDrawn = !text?.includes('no straight trend');
        expect(await page.locator('line.trend').count()).toBe(isDrawn ? 1 : 0);
        await page.getByRole('combobox', { name: 'X' }).selectOption({ label: 'lr' });
        await page.waitForURL(/sx=/);
        const status = await page.locator('.scatter [role=status]').textContent();
        expect(await page.locator('circle.dot').count()).toBe(
          Number(/(\d+) runs/.exec(status ?? '')?.[1]),
        );
        await visit.shot(`params-scatter-${theme}`);
        expect(await findings(page)).toEqual([]);
        // From run to run by keyboard.
        await page.locator('svg[role=application]').focus();
        await page.keyboard.press('ArrowRight');
        await page.keyboard.press('ArrowRight');
        await page.locator('circle.picked').waitFor();
        expect(await page.locator('.tip b').first().textContent()).not.toBe('');
        // The tip about a run moves nothing.
        const main = page.locator('main');
        expect(await main.evaluate(main => main.scrollWidth - main.clientWidth)).toBe(0);
        await page.keyboard.press('Enter');
        await page.waitForURL(/\/runs\/\w+(\?|$)/);
      },
      { theme },
    );
  },
);

test('titles of axes do not overlap on a phone', async () => {
  await site.visit(
    '/params',
    async visit => {
      const { page } = visit;
      await page.waitForSelector('polyline');
      const titles = page.locator('.title .opener');
      const boxes = (await Promise.all((await titles.all()).map(one => one.boundingBox()))).map(
        box => box!,
      );
      expect(boxes.length).toBeGreaterThan(3);
      for (const [at, { x, width }] of boxes.entries())
        expect(x + width).toBeLessThanOrEqual(boxes[at + 1]?.x ?? Infinity);
      await visit.shot('params-phone');
      expect(await findings(page)).toEqual([]);
    },
    { width: 390, height: 844 },
  );
});

test('the legend of a scatter plot is whole on a phone', async () => {
  await site.visit(
    '/params?view=scatter&sx=param:hparams.lr',
    async visit => {
      const { page } = visit;
      await page.waitForSelector('circle.dot');
      const parts = page.locator('.scatter [role=status] span');
      await parts.first().waitFor();
      const plot = (await page.locator('.scatter .plot').boundingBox())!;
      for (const part of await parts.all()) {
        const box = (await part.boundingBox())!;
        expect(box.x + box.width).toBeLessThanOrEqual(390);
        expect(box.height).toBeLessThan(24);
        expect(box.y + box.height).toBeLessThanOrEqual(plot.y + 1);
      }
      await visit.shot('params-scatter-phone');
      expect(await findings(page)).toEqual([]);
    },
    { width: 390, height: 844 },
  );
});

/** The ids of the last runs that were read by their ids. */
function readAgain(visit: Visit): string[] | undefined {
  return visit.requests(RunService.method.batchGet).at(-1)?.runIds;
}

test('more points of a run read that run again, and no others', async () => {
  const { live, hashes } = site.runs;
  const limits = (visit: Visit): number[] =>
    visit
      .requests(SearchService.method.runs)
      .flatMap(({ idsOnly, limit }) => (idsOnly ? [] : [limit]));
  await site.visit('/params?metric=metric%3Aloss+%7B"subset"%3A"train"%7D', async visit => {
    const { page } = visit;
    await page.waitForSelector('svg[aria-label^="Parallel"] polyline');
    // The newest run.
    await page.focus('svg.drawing');
    await page.keyboard.press('ArrowRight');
    const shown = (value: number): Promise<void> =>
      page.locator('.tip', { hasText: String(value) }).waitFor();
    // The server does not know which runs changed before the watch began.
    await site.project.track(77.25);
    await shown(77.25);
    const all = limits(visit).filter(limit => limit === 1_000).length;
    await site.project.track(78.25);
    await shown(78.25);
    expect(readAgain(visit)).toEqual([live]);
    expect(limits(visit).filter(limit => limit === 1_000).length).toBe(all);
  });
  await site.visit(`/compare?runs=${live},${hashes[0]}&all=1`, async visit => {
    const { page } = visit;
    await page.waitForSelector('[role=rowheader]');
    expect(readAgain(visit)).toEqual([live, hashes[0]]);
    await site.project.track(33.125);
    await page.locator('[role=cell]', { hasText: '33.125' }).waitFor();
    expect(readAgain(visit)).toEqual([live]);
    // A run that is not compared changes nothing.
    const before = visit.calls.filter(call => call === 'RunService/BatchGet').length;
    await untilNotified(page, () => site.project.start('not compared'));
    await untilNotified(page, () => site.project.track(44.5));
    await page.locator('[role=cell]', { hasText: '44.5' }).waitFor();
    expect(visit.calls.filter(call => call === 'RunService/BatchGet').length).toBe(before + 1);
    expect(limits(visit)).toEqual([]);
  });
  await site.visit('/compare?all=1&q=run.active', async visit => {
    const { page } = visit;
    await page.waitForSelector('[role=rowheader]');
    await site.project.track(55.125);
    await page.locator('[role=cell]', { hasText: '55.125' }).waitFor();
    const all = limits(visit).length;
    await site.project.track(56.125);
    await page.locator('[role=cell]', { hasText: '56.125' }).waitFor();
    expect(readAgain(visit)).toEqual([live]);
    expect(limits(visit).length).toBe(all);
  });
});

test.each(['parallel', 'scatter'])('diverged runs are off the scale, %s', async view => {
  const ids = Array.from({ length: 23 }, (_, at) => `d1${at.toString(16).padStart(22, '0')}`);
  for (const [at, id] of ids.entries()) {
    const value = at < 20 ? 1 + at / 80 : 9;
    await publish(
      site.server,
      id,
      [
        { kind: { case: 'createRun', value: {} } },
        { kind: { case: 'setRunProperty', value: { name: `diverging ${at}` } } },
        { kind: { case: 'logParams', value: { value: encodeCbor({ lr: 0.001 * (at + 1) }) } } },
      ],
      { series: [{ name: 'loss' }], points: [{ series: [0], steps: [0n], values: [value] }] },
    );
  }
  await site.visit(`/params?q=diverging&view=${view}`, async visit => {
    const { page } = visit;
    await page.getByRole('button', { name: '3 runs off the scale' }).waitFor();
    await visit.shot(`params-outliers-${view}`);
    expect(await findings(page)).toEqual([]);
    if (view === 'scatter') expect(await page.locator('svg.drawing path.dot').count()).toBe(3);
    await page.getByRole('button', { name: '3 runs off the scale' }).click();
    await page.waitForURL(/outliers=1/);
    await page.getByRole('button', { name: 'Leave out outliers' }).click();
    await page.getByRole('button', { name: '3 runs off the scale' }).waitFor();
  });
});

test.each(['light', 'dark'] as const)(
  'the learning rate that decides a sweep comes first, and brushes are followed, %s',
  async theme => {
    const ids = Array.from({ length: 45 }, (_, at) => `5e${at.toString(16).padStart(22, '0')}`);
    for (const [at, id] of ids.entries()) {
      // Numbers that look random, and are the same each time.
      const dice = (of: number): number => ((at * of * 2_654_435_761) % 4_294_967_296) / 2 ** 32;
      const lr = 10 ** (-2 - 4 * dice(1));
      const dataset = ['alpaca', 'oasst', 'dolly'][Math.floor(3 * dice(7))] as string;
      const value = at % 15 === 4 ? 9 : (Math.log10(lr) + 3.8) ** 2 + 0.2 * dice(13);
      const params = { lr, dataset, warmup: dice(3), job_id: 840_000 + at, seed: at * 17 };
      await publish(
        site.server,
        id,
        [
          { kind: { case: 'createRun', value: {} } },
          { kind: { case: 'setRunProperty', value: { name: `forest ${at}` } } },
          { kind: { case: 'logParams', value: { value: encodeCbor({ sweep: params }) } } },
        ],
        { series: [{ name: 'loss' }], points: [{ series: [0], steps: [0n], values: [value] }] },
      );
    }
    await site.visit(
      '/params?q=forest',
      async visit => {
        const { page } = visit;
        const card = page.getByRole('region', { name: /depends on$/ });
        await card.getByText('By importance in a random forest').waitFor();
        const rows = card.locator('li button');
        const titles = (): Promise<(string | null)[]> =>
          rows.evaluateAll(all => all.map(one => one.getAttribute('title')));
        expect((await titles())[0]).toBe('param:sweep.lr');
        expect((await titles()).join()).not.toMatch(/job_id|seed/);
        expect(await rows.first().textContent()).toMatch(/lowest near/);
        await card.getByText('2 ids and seeds are left out.').waitFor();
        expect(await rows.first().locator('path').getAttribute('d')).toMatch(/(M[\d. ]+h0){40}/);
        await visit.shot(`params-forest-${theme}`);
        expect(await findings(page)).toEqual([]);
        // The scatter plot shows the strongest dependence by itself.
        await page.getByRole('combobox', { name: 'View' }).selectOption('scatter');
        await page.locator('svg.drawing text.title', { hasText: 'lr' }).waitFor();
        await visit.shot(`params-forest-scatter-${theme}`);
        // Fewer runs give another list, of their number.
        await page.goBack();
        await page.getByRole('slider', { name: 'Lowest lr' }).focus();
        for (let press = 0; press < 2; press++) await page.keyboard.press('PageUp');
        await page.waitForURL(/brush=/);
        await eventually('fewer runs count', async () => {
          const own = / (\d+) runs$/.exec((await rows.first().textContent())?.trim() ?? '')?.[1];
          return Number(own) > 0 && Number(own) < 45;
        });
      },
      { theme },
    );
  },
);

test('axes are zoomed to a range, and a scatter plot by a drag and by keys', async () => {
  // Only the runs with this learning rate: params of the same name in other runs give the axis a longer title.
  const query = encodeURIComponent('run.hparams.lr > 0');
  await site.visit(`/params?q=${query}`, async visit => {
    const { page } = visit;
    await page.getByRole('slider', { name: 'Lowest lr' }).focus();
    for (let press = 0; press < 2; press++) await page.keyboard.press('PageUp');
    await page.waitForURL(/brush=/);
    const opener = page.getByRole('button', { name: 'Axis lr', exact: true });
    await opener.click();
    await page.getByRole('menuitem', { name: 'Zoom to the range' }).click();
    await page.waitForURL(/limits=/);
    expect(page.url()).not.toContain('brush=');
    await page.getByRole('button', { name: /off the scale/ }).waitFor();
    await visit.shot('params-limits');
    await opener.click();
    await page.getByRole('menuitem', { name: 'Linear axis' }).click();
    await page.waitForURL(/scales=/);
    await page.getByRole('button', { name: 'Reset zoom' }).click();
    await page.waitForURL(url => !url.search.includes('limits='));
  });
  await site.visit(`/params?q=${query}&view=scatter&sx=param:hparams.lr`, async visit => {
    const { page } = visit;
    const plot = page.locator('svg.drawing');
    await plot.locator('circle.dot').first().waitFor();
    const box = (await plot.boundingBox())!;
    await page.mouse.move(box.x + box.width * 0.4, box.y + box.height * 0.2);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.7, box.y + box.height * 0.7, { steps: 4 });
    await plot.locator('rect.zoom').waitFor();
    await page.mouse.up();
    await page.waitForURL(/limits=/);
    await visit.shot('params-scatter-zoomed');
    // A drag along the lower edge chooses a part of the x axis only.
    const ends = (): (string | undefined)[] => {
      const all = (new URL(page.url()).searchParams.get('limits') ?? '').split(',');
      return ['param:', 'metric:'].map(kind => all.find(text => text.startsWith(kind)));
    };
    const [x, y] = ends();
    await page.mouse.move(box.x + box.width * 0.4, box.y + box.height - 2);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.7, box.y + box.height - 2, { steps: 4 });
    await page.mouse.up();
    await eventually('the x axis is zoomed again', () => ends()[0] !== x);
    expect(ends()[1]).toBe(y);
    expect(await page.evaluate(() => getSelection()?.toString())).toBe('');
    expect(await findings(page)).toEqual([]);
    await plot.focus();
    await page.keyboard.press('Escape');
    await page.waitForURL(url => !url.search.includes('limits='));
    await page.keyboard.press('+');
    await page.waitForURL(/limits=/);
    await inSettings(page, settings =>
      settings.getByRole('checkbox', { name: 'Log lr' }).uncheck(),
    );
    await page.waitForURL(/scales=/);
  });
});
