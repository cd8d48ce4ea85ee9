/** Logged figures, pages and point clouds in Chromium: nothing reaches the page from their frames. */
import type { Frame, Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, findings, inSettings, Site } from './harness.ts';

let site: Site;
beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

/** The frame of a figure, once it is drawn. */
async function drawn(page: Page, name: string): Promise<Frame> {
  await page.locator(`.figure[data-drawn]:has(iframe[title^="${name}"])`).waitFor();
  const frame = await (
    await page.locator(`iframe[title^="${name}"]`).elementHandle()
  )?.contentFrame();
  return frame!;
}

function titleIn(frame: Frame): Promise<string | null> {
  return frame.locator('.gtitle').textContent();
}

test.each(['light', 'dark'] as const)(
  'figures are drawn in the colors of the page, %s',
  async theme => {
    await site.visit(
      '/media?kind=figures',
      async visit => {
        const { page } = visit;
        const confusion = await drawn(page, 'confusion');
        await drawn(page, 'roc');
        expect(await titleIn(confusion)).toBe('Confusion, step 40');
        const colors = (): Promise<string[]> =>
          confusion.evaluate(() => [
            document.querySelector<SVGElement>('.main-svg')?.style.background ?? '',
            getComputedStyle(document.querySelector('.gtitle')!).fill,
          ]);
        const card = (): Promise<string> =>
          page
            .locator('.figure')
            .first()
            .evaluate(figure => getComputedStyle(figure).backgroundColor);
        expect((await colors())[0]).toBe(await card());
        await visit.shot(`figures-${theme}`);
        expect(await findings(page)).toEqual([]);
        // Another theme draws it again.
        const before = await colors();
        await page.keyboard.press('t');
        await eventually('the figure follows the theme', async () => {
          const [background, text] = await colors();
          return background !== before[0] && text !== before[1] && background === (await card());
        });
      },
      { theme },
    );
  },
);

test('a slider moves figures through their steps, and their size is that of the card', async () => {
  await site.visit(`/runs/${site.runs.studio}?tab=media&kind=figures`, async visit => {
    const { page } = visit;
    const confusion = await drawn(page, 'confusion');
    await page.focus('.steps input');
    await page.keyboard.press('Home');
    await page.waitForURL(/at=0/);
    await eventually(
      'the first step',
      async () => (await titleIn(confusion)) === 'Confusion, step 0',
    );
    const width = (): Promise<number> =>
      confusion.evaluate(
        () => document.querySelector('.main-svg')?.getBoundingClientRect().width ?? 0,
      );
    const before = await width();
    // The figure itself wants 300 by 900 pixels.
    expect(before).toBeGreaterThan(400);
    await inSettings(page, settings =>
      settings.getByRole('slider', { name: 'Size' }).press('ArrowRight'),
    );
    await eventually('it grows', async () => (await width()) > before + 50);
    await visit.shot('figures-large');
  });
});

/** All figures of the project. */
const FIGURES = 9;

/** Scrolls down from the top until an object with a text is in view. */
async function reveal(page: Page, text: string): Promise<void> {
  const object = page.locator('.object', { hasText: text });
  // The list shows other rows with the next frame.
  const scroll = (by: number): Promise<void> =>
    page.locator('.body .scroller').evaluate(async (element, by) => {
      element.scrollTop += by;
      await new Promise(requestAnimationFrame);
    }, by);
  await scroll(-1e6);
  await eventually(
    `${text} is near the view`,
    async () => (await object.count()) > 0 || scroll(150),
  );
  await object.first().scrollIntoViewIfNeeded();
}

test('figures are loaded only where they are in view', async () => {
  await site.visit(
    '/media?kind=figures&group=step',
    async visit => {
      const { page } = visit;
      await page.locator('.figure[data-drawn]').first().waitFor();
      const frames = (): Promise<number> => page.locator('iframe').count();
      expect(await frames()).toBeLessThan(FIGURES / 2);
      await reveal(page, 'step 40');
      await page.locator('.figure[data-drawn]:has(iframe[title="confusion, step 40"])').waitFor();
      expect(await frames()).toBeLessThan(FIGURES / 2);
    },
    { height: 560 },
  );
});

test('a hostile figure has no way out of its frame, and a broken one says what is wrong', async () => {
  await site.visit(`/runs/${site.runs.studio}?tab=media&kind=figures`, async visit => {
    const { page } = visit;
    const requests: string[] = [];
    page.on('request', request => requests.push(request.url()));
    await page.evaluate(() => {
      const got: unknown[] = [];
      Object.assign(globalThis, { got });
      addEventListener('message', ({ data }) => got.push(data));
    });
    const failed = (name: string): Locator =>
      page.locator(`.figure:has(iframe[title^="${name}"]) [role=alert]`);
    await page.locator('.object').first().waitFor();
    await reveal(page, 'broken');
    expect(await failed('broken').textContent()).toContain(
      'it has no list of traces called “data”',
    );
    await reveal(page, 'sites');
    // Its outlines are elsewhere; that they are asked for would be an error of the page.
    expect(await failed('sites').textContent()).toContain('Log the map as an image instead');
    await reveal(page, 'hostile');
    const frame = await drawn(page, 'hostile');
    const response = await page.request.get(frame.url());
    const policy = response.headers()['content-security-policy'] ?? '';
    // The web server of a published copy sends no policy, so the page contains the same restrictions.
    const [, own = ''] = /^sandbox allow-scripts; (.*); frame-ancestors /.exec(policy) ?? [];
    expect(own).toContain("default-src 'none'");
    expect(await response.text()).toContain(
      `<meta http-equiv="Content-Security-Policy" content="${own}">`,
    );
    expect(await frame.evaluate(() => globalThis.origin)).toBe('null');
    // The texts are there, and nothing of them has become an element that runs.
    expect(await titleIn(frame)).toContain('hostile title');
    expect(await frame.evaluate(() => document.querySelectorAll('script').length)).toBe(2);
    expect(
      await frame.evaluate(
        () => document.querySelectorAll('#plot :is(img, script, [onerror])').length,
      ),
    ).toBe(0);
    const hrefs = await frame.evaluate(() =>
      [...document.querySelectorAll('a')].map(
        link => link.getAttribute('xlink:href') ?? link.getAttribute('href'),
      ),
    );
    expect(hrefs.filter(href => /javascript/i.test(href ?? ''))).toEqual([]);
    const bar = frame.locator('.bars path').first();
    await bar.scrollIntoViewIfNeeded();
    const box = (await bar.boundingBox())!;
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2, { steps: 3 });
    await frame.locator('.hoverlayer .hovertext').waitFor();
    await visit.shot('figures-hostile');
    await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    // Even a script in the frame cannot read the page, send anything to a server, or leave the frame.
    const attempts = await frame.evaluate(async () => {
      const failed: string[] = [];
      try {
        void parent.document.title;
      } catch {
        failed.push('read');
      }
      await fetch(`${location.origin === 'null' ? 'http://127.0.0.1' : ''}/stolen`).catch(() =>
        failed.push('send'),
      );
      try {
        top!.location.href = '/stolen';
      } catch {
        failed.push('leave');
      }
      return failed;
    });
    expect(attempts).toEqual(['read', 'send', 'leave']);
    expect(
      await page.evaluate(() => (globalThis as unknown as { got: unknown[] }).got),
    ).not.toContain('hacked');
    expect(await page.title()).toBe('studio · Matyan');
    expect(requests.filter(url => url.includes('stolen'))).toEqual([]);
    // The attempts above are what the console reports.
    visit.errors.splice(0);
  });
});

test('a logged page runs in a frame without rights', async () => {
  await site.visit(`/runs/${site.runs.studio}?tab=media&kind=pages`, async visit => {
    const { page, errors } = visit;
    const title = await page.title();
    const element = await page.waitForSelector('iframe[title^="predictions"]');
    expect(await element.getAttribute('sandbox')).toBe('allow-scripts');
    const frame = (await element.contentFrame())!;
    // Its own script has run, and has reached nothing.
    await frame.waitForSelector('b:text-is("refused")');
    expect(await frame.textContent('h1')).toBe('Step 40');
    expect(await page.title()).toBe(title);
    const response = await page.request.get(frame.url());
    expect(response.headers()['content-security-policy']).toContain('sandbox allow-scripts;');
    await visit.shot('media-pages');
    expect(await findings(page)).toEqual([]);
    expect(errors.splice(0).every(text => /content security policy|csp/i.test(text))).toBe(true);
  });
});

test('a point cloud is drawn, and turned by keys', async () => {
  await site.visit(`/runs/${site.runs.studio}?tab=media&kind=points`, async visit => {
    const { page } = visit;
    const cloud = page.getByRole('application', { name: /^a ball, step 40: 900 points/ });
    await page.waitForSelector('.points canvas[data-drawn]');
    const pixels = (): Promise<string> =>
      cloud.locator('canvas').evaluate(one => (one as HTMLCanvasElement).toDataURL());
    const first = await pixels();
    await cloud.press('ArrowLeft');
    await eventually('it is turned', async () => (await pixels()) !== first);
    await cloud.press('Escape');
    await eventually('it is as before', async () => (await pixels()) === first);
    await visit.shot('media-points');
    expect(await findings(page)).toEqual([]);
  });
});
