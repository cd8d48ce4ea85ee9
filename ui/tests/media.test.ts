/** Media, and the home page, in Chromium against the real server. */
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { encodeCbor } from '../src/api/cbor_writer.ts';
import { eventually, findings, go, inSettings, publish, Site, tabTo, Visit } from './harness.ts';

let site: Site;
beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

const KINDS: [kind: string, ready: string][] = [
  ['images', 'canvas[data-drawn]'],
  ['audio', 'audio[controls]'],
  ['texts', 'pre:has-text("<b>quick</b>")'],
  ['distributions', 'figure path'],
];

describe.each(['light', 'dark'] as const)('in %s', theme => {
  test.each(KINDS)('%s are shown, grouped in every way', async (kind, ready) => {
    await site.visit(
      `/media?kind=${kind}`,
      async visit => {
        await visit.page.waitForSelector(ready);
        await visit.shot(`media-${kind}-${theme}`);
        expect(await findings(visit.page)).toEqual([]);
        for (const group of ['step', 'index', 'context']) {
          await visit.page.selectOption('label:has-text("Group by") select', group);
          await visit.page.waitForURL(new RegExp(`group=${group}`));
          await visit.page.waitForSelector(ready);
        }
      },
      { theme },
    );
  });
});

/** The first image is as high as its box at most. */
async function fits(page: Page, within: string): Promise<void> {
  const image = page.locator(`${within} [role=img]`).first();
  const box = (await image.boundingBox())!;
  const own = (await image.locator('canvas').boundingBox())!;
  expect(own.height).toBeLessThanOrEqual(box.height + 0.5);
  expect(own.y).toBeGreaterThanOrEqual(box.y - 0.5);
}

async function colors(page: Page): Promise<number[]> {
  return page.locator('canvas[data-drawn]').evaluateAll(all =>
    all.map(canvas => {
      const { width, height } = canvas as HTMLCanvasElement;
      const { data } = (canvas as HTMLCanvasElement)
        .getContext('2d')!
        .getImageData(0, 0, width, height);
      return data.reduce((sum, value) => sum + value, 0);
    }),
  );
}

test('audio is read when it is played, and sought', async () => {
  await site.visit('/media?kind=audio', async ({ page }) => {
    const audio = page.locator('audio').first();
    await audio.waitFor();
    const state = (): Promise<number> =>
      audio.evaluate(one => (one as HTMLAudioElement).readyState);
    expect(await state()).toBe(0);
    await audio.evaluate(one => {
      (one as HTMLAudioElement).preload = 'auto';
      (one as HTMLAudioElement).load();
    });
    await eventually('all of it can be played', async () => (await state()) === 4);
    const sought = await audio.evaluate(async one => {
      const player = one as HTMLAudioElement;
      const ended = new Promise(resolve =>
        player.addEventListener('seeked', resolve, { once: true }),
      );
      player.currentTime = player.duration / 2;
      await ended;
      return player.currentTime / player.duration;
    });
    expect(sought).toBeCloseTo(0.5, 1);
  });
});

test('one slider moves all images, and one each moves its own', async () => {
  await site.visit(`/runs/${site.runs.studio}?tab=media`, async visit => {
    const { page } = visit;
    await eventually('images are drawn', async () => (await colors(page)).length === 8);
    const last = await colors(page);
    await page.focus('.steps input');
    await page.keyboard.press('Home');
    await page.waitForURL(/at=0/);
    await eventually('all images changed', async () =>
      (await colors(page)).every((sum, at) => sum !== last[at]),
    );
    expect(await page.textContent('.object small')).toContain('step 0');
    await inSettings(page, settings =>
      settings.getByRole('checkbox', { name: 'One slider each' }).check(),
    );
    await page.focus('.object input >> nth=0');
    await page.keyboard.press('End');
    // The four images of a sequence share its steps.
    await eventually('a sequence changed', async () => {
      const now = await colors(page);
      return now.filter((sum, at) => sum === last[at]).length === 4;
    });
    await visit.shot('media-sliders');
    expect(await findings(page)).toEqual([]);
    expect(visit.calls.filter(call => call === 'SearchService/Objects').length).toBe(1);
  });
});

test('an active run and its last value are on the home page as they change', async () => {
  await site.visit('/', async visit => {
    const { page } = visit;
    await page.waitForSelector('section[aria-label="Active runs"] a:has-text("live run")');
    await site.project.track(0.125);
    await page.waitForSelector('section[aria-label="Active runs"] b:text-is("0.125")');
    await visit.shot('home-live');
  });
});

test.each(['light', 'dark'] as const)('distributions are shown over all steps, %s', async theme => {
  await site.visit(
    '/media?kind=distributions',
    async visit => {
      const { page } = visit;
      const show = page.getByRole('combobox', { name: 'Show' });
      await show.selectOption('heat');
      const heat = page.getByRole('application', { name: /heat map of 10 steps/ });
      await eventually('the values under the pointer', async () => {
        const box = (await heat.boundingBox())!;
        await page.mouse.move(box.x + box.width - 2, box.y + box.height / 2);
        return /step 45.*%/.test((await page.locator('figure.heat .steps').textContent()) ?? '');
      });
      await page.mouse.move(0, 0);
      await page.keyboard.press('?');
      await page.keyboard.type('heat map in focus');
      await page.locator('dialog[open] [role=option]', { hasText: 'Previous step' }).click();
      await page.keyboard.press('ArrowLeft');
      const spoken = heat.locator('xpath=following-sibling::*[@aria-live]');
      await eventually('the values of the step before', async () =>
        /step 40.*%/.test((await spoken.textContent()) ?? ''),
      );
      const before = await spoken.textContent();
      await page.keyboard.press('ArrowUp');
      await eventually('higher values', async () => (await spoken.textContent()) !== before);
      await visit.shot(`media-heat-${theme}`);
      expect(await findings(page)).toEqual([]);
      await show.selectOption('ridges');
      await page.getByRole('img', { name: /ridges of 10 steps/ }).waitFor();
      await visit.shot(`media-ridges-${theme}`);
      expect(await findings(page)).toEqual([]);
    },
    { theme },
  );
});

test.each(['light', 'dark'] as const)(
  'two images are compared, zoomed and moved together, %s',
  async theme => {
    await site.visit(
      '/media',
      async visit => {
        const { page } = visit;
        await page.waitForSelector('canvas[data-drawn]');
        await page.locator('button.open').first().press('Enter');
        const dialog = page.getByRole('dialog', { name: 'Image' });
        await dialog.locator('canvas[data-drawn]').waitFor();
        await page.getByRole('combobox', { name: 'Compare with' }).selectOption({ index: 3 });
        await page.waitForURL(/vs=/);
        await eventually(
          'both are drawn',
          async () => (await dialog.locator('canvas[data-drawn]').count()) === 2,
        );
        const transforms = (): Promise<(string | null)[]> =>
          dialog
            .locator('.image')
            .evaluateAll(all => all.map(one => (one as HTMLElement).style.transform));
        await dialog.getByRole('application').first().focus();
        for (const key of ['+', '+', '+', 'ArrowLeft']) await page.keyboard.press(key);
        const [one, other] = await transforms();
        expect(one).toBe(other);
        expect(one).toContain('scale(1.95');
        await visit.shot(`media-side-${theme}`);
        await page.getByRole('combobox', { name: 'As' }).selectOption('slider');
        await page.getByRole('slider', { name: 'Where the images meet' }).press('ArrowRight');
        await eventually('they meet elsewhere', async () =>
          (await dialog.locator('.over').getAttribute('style'))?.includes('50.5%'),
        );
        await visit.shot(`media-slider-${theme}`);
        // Two fingers.
        await dialog.getByRole('application').first().press('0');
        const box = (await dialog.getByRole('application').first().boundingBox())!;
        const x = box.x + box.width / 2;
        const y = box.y + box.height / 2;
        const session = await page.context().newCDPSession(page);
        const touch = (
          type: 'touchStart' | 'touchMove' | 'touchEnd',
          ...places: number[]
        ): Promise<unknown> =>
          session.send('Input.dispatchTouchEvent', {
            type,
            touchPoints: places.map(by => ({ x: x + by, y })),
          });
        await touch('touchStart', -40, 40);
        await touch('touchMove', -80, 80);
        await touch('touchMove', -120, 120);
        await touch('touchEnd');
        await eventually('both are three times as large', async () => {
          const [left, right] = await transforms();
          return (
            left === right && Math.abs(Number(/scale\((.*)\)/.exec(left ?? '')?.[1]) - 3) < 0.05
          );
        });
        expect(await findings(page)).toEqual([]);
        await page.keyboard.press('Escape');
        await eventually('it is closed', () => !new URL(page.url()).searchParams.has('img'));
      },
      { theme },
    );
  },
);

test('the viewer walks through images and steps, by keys and by mouse', async () => {
  await site.visit('/media', async ({ page }) => {
    await page.waitForSelector('canvas[data-drawn]');
    await page.locator('button.open').first().press('Enter');
    const dialog = page.getByRole('dialog', { name: 'Image' });
    const image = dialog.getByRole('application').first();
    const title = (): Promise<string> => dialog.locator('p.popup').innerText();
    await image.waitFor();
    const first = await title();
    expect(first).toMatch(/subset=\w+ · step 45 · 0$/);
    // A step back, for all images of the page.
    await image.press('ArrowLeft');
    await page.waitForURL(/at=40/);
    await eventually('the step before is shown', async () =>
      (await title()).endsWith('step 40 · 0'),
    );
    await image.press('PageDown');
    await eventually('the next image is shown', async () =>
      (await title()).endsWith('step 40 · 1'),
    );
    await dialog.getByRole('button', { name: 'Previous image' }).click();
    await dialog.getByRole('slider', { name: /^Step/ }).press('End');
    await eventually('it is as before', async () => (await title()) === first);
    expect(await findings(page)).toEqual([]);
  });
});

test('images are opened from the grid, and closed, by keyboard', async () => {
  await site.visit('/media', async ({ page }) => {
    await page.waitForSelector('canvas[data-drawn]');
    await tabTo(page, 'button.open');
    await page.keyboard.press('Tab');
    const opener = await page.evaluateHandle(() => document.activeElement);
    expect(await opener.evaluate(one => one?.matches('button.open'))).toBe(true);
    await page.keyboard.press('Enter');
    const dialog = page.getByRole('dialog', { name: 'Image' });
    await dialog.locator('canvas[data-drawn]').waitFor();
    await tabTo(page, 'dialog [role=application]');
    const zoom = async (): Promise<number> =>
      Number.parseInt(await dialog.getByText(/^\d+ %/).innerText(), 10);
    const before = await zoom();
    await page.keyboard.press('+');
    await eventually('it is larger', async () => Math.abs((await zoom()) / before - 1.25) < 0.05);
    await page.keyboard.press('Escape');
    await eventually('it is closed', () => !new URL(page.url()).searchParams.has('img'));
    await eventually('the focus is where it was', () =>
      opener.evaluate(one => document.activeElement === one),
    );
  });
});

test('a grid of large images transfers reduced ones, and the viewer shows the whole one', async () => {
  await site.project.images(6);
  const visit = await Visit.open(site.browser, site.server, '/media');
  const { page } = visit;
  /** Payloads that the current document has read, with their sizes. */
  const read = (): Promise<[path: string, bytes: number][]> =>
    page.evaluate(() =>
      (performance.getEntriesByType('resource') as PerformanceResourceTiming[]).flatMap(entry => {
        const { pathname, search } = new URL(entry.name);
        return pathname.includes('/payloads/')
          ? [[`${pathname.split('/').at(-1)}${search}`, entry.decodedBodySize]]
          : [];
      }),
    );
  const widths = (within: string): Promise<number[]> =>
    page
      .locator(`${within} canvas[data-drawn]`)
      .evaluateAll(all => all.map(canvas => (canvas as HTMLCanvasElement).width));
  await page.goto(`${visit.base}/runs/${site.runs.live}?tab=media&size=240`);
  await eventually('all are drawn', async () => (await widths('.object')).length === 6);
  expect(await widths('.object')).toEqual(Array.from({ length: 6 }, () => 192));
  const grid = await read();
  expect(new Set(grid.map(([path]) => path))).toEqual(new Set(['thumbnail?size=256']));
  const bytes = grid.reduce((sum, [, size]) => sum + size, 0);
  console.info(`${grid.length} reduced images of 3.2 MB each: ${bytes} bytes`);
  // The images are noise, which is as large in a PNG as in memory.
  const each = bytes / grid.length;
  expect(each).toBeGreaterThan(0);
  expect(each).toBeLessThan(192 * 256 * 4 * 1.1);
  expect(await page.locator('.object [role=img]').first().getAttribute('title')).toBe('900 × 1200');
  await page.locator('button.open').first().press('Enter');
  await eventually('it is shown', async () => (await widths('dialog')).length === 1);
  expect(await widths('dialog')).toEqual([900]);
  for (const place of ['.object', 'dialog']) await fits(page, place);
  const others = (await read()).map(([path]) => path).slice(grid.length);
  expect(others.map(path => path.includes('thumbnail'))).toEqual([false]);
  await visit.close();
});

test('an image that could not be read is read again on request', async () => {
  const visit = await Visit.open(site.browser, site.server, '/');
  const { page } = visit;
  let refused = 0;
  await page.route('**/payloads/**', route =>
    refused++ === 0 ? route.fulfill({ status: 503 }) : route.continue(),
  );
  await go(page, '/media', 'button:text-is("Retry")');
  expect(await findings(page)).toEqual([]);
  const undrawn = page.locator('canvas:not([data-drawn])');
  await eventually('the others are shown', async () => (await undrawn.count()) === 0);
  const others = await page.locator('canvas[data-drawn]').count();
  await page.getByRole('button', { name: 'Retry' }).click();
  await eventually(
    'the image is shown',
    async () => (await page.locator('canvas[data-drawn]').count()) > others,
  );
  expect(await page.getByRole('button', { name: 'Retry' }).count()).toBe(0);
  await page.context().close();
});

/** Logs 3 texts at each of many steps, or many at one step. */
async function logTexts(id: string, steps: number, each: number): Promise<void> {
  const objects = Array.from({ length: steps }, (_, step) => {
    const texts = Array.from({ length: each }, (_, at) => ({
      type: 'text',
      data: `text ${step} ${at}`,
    }));
    const value = { name: 'many', dtype: 'text', step: BigInt(step), value: encodeCbor(texts) };
    return { kind: { case: 'logObject' as const, value } };
  });
  await publish(site.server, id, [
    { kind: { case: 'createRun', value: {} } },
    { kind: { case: 'setRunProperty', value: { name: `texts ${id.slice(-2)}` } } },
    ...objects,
  ]);
}

test('every step is reached by the slider, and every object of it is shown', async () => {
  const id = 'b'.repeat(24);
  await logTexts(id, 3_000, 1);
  await site.visit(`/runs/${id}?tab=media&kind=texts`, async visit => {
    const { page } = visit;
    const slider = page.locator('.steps input');
    const count = async (): Promise<number> => Number(await slider.getAttribute('max')) + 1;
    const step = async (): Promise<number> => Number(await page.textContent('.steps output'));
    await slider.waitFor();
    expect(await count()).toBe(50);
    const wanted = 1_234;
    /** Moves the slider to the last step that is not after the wanted one. */
    const approach = async (): Promise<number> => {
      await slider.focus();
      await page.keyboard.press('Home');
      while ((await step()) < wanted) await page.keyboard.press('ArrowRight');
      if ((await step()) > wanted) await page.keyboard.press('ArrowLeft');
      return step();
    };
    const around = page.getByRole('button', { name: /^Steps around/ });
    while ((await approach()) !== wanted) {
      const before = page.url();
      await around.click();
      await page.waitForURL(url => url.href !== before);
      await visit.quiet();
    }
    await page.locator('pre', { hasText: `text ${wanted} 0` }).waitFor();
    await visit.shot('media-steps-around');
    expect(await findings(page)).toEqual([]);
    await page.getByRole('button', { name: 'All steps' }).click();
    await eventually('all steps are back', async () => (await count()) === 50);
  });
  const other = 'c'.repeat(24);
  await logTexts(other, 1, 40);
  await site.visit(`/runs/${other}?tab=media&kind=texts`, async ({ page }) => {
    await page.locator('pre', { hasText: 'text 0 0' }).waitFor();
    const last = page.locator('pre', { hasText: 'text 0 39' });
    expect(await page.locator('.object').count()).toBeLessThanOrEqual(16);
    await inSettings(page, settings =>
      settings.getByRole('checkbox', { name: 'All objects of a step' }).check(),
    );
    await page.waitForURL(/whole=1/);
    await eventually('all are there', async () => {
      await page.locator('.body .window').hover();
      await page.mouse.wheel(0, 10_000);
      return (await last.count()) === 1;
    });
  });
});

test('more than the newest runs with media are shown on request', async () => {
  for (let number = 10; number < 40; number++)
    await logTexts(`d${String(number).repeat(12).slice(0, 23)}`, 1, 1);
  const q = encodeURIComponent('run.name.startswith("texts ")');
  await site.visit(`/media?kind=texts&q=${q}`, async visit => {
    const { page } = visit;
    const status = page.locator('[role=toolbar] [role=status]');
    await eventually('twelve runs', async () =>
      (await status.textContent())?.includes('the newest 12 runs'),
    );
    for (const most of [24, 48]) {
      await page.getByRole('button', { name: 'Show more runs' }).click();
      await page.waitForURL(new RegExp(`most=${most}`));
      await visit.quiet();
    }
    expect(await page.getByRole('button', { name: 'Show more runs' }).count()).toBe(0);
    await page.locator('.body .window').hover();
    await page.mouse.wheel(0, 100_000);
    // The oldest one.
    await page.getByRole('heading', { name: 'texts bb' }).waitFor();
  });
});
