/** The metrics explorer: groups with bands, x axes, outliers, and the tooltip that stays. */
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type { Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { encodeCbor } from '../src/api/cbor_writer.ts';
import { EMPTY_SERIES } from '../src/api/series_data.ts';
import { AppService } from '../src/gen/matyan/apps/v1/apps_pb.ts';
import { SeriesService } from '../src/gen/matyan/series/v1/series_pb.ts';
import { layoutChart, type ChartModel } from '../src/plot/chart.ts';
import { ownPlace, PALETTE } from '../src/plot/palette.ts';
import { chartTheme } from '../src/plot/theme.ts';
import {
  drawn,
  eventually,
  findings,
  inSettings,
  publish,
  savedChart,
  Site,
  Visit,
} from './harness.ts';

let site: Site;

beforeAll(async () => void (site = await Site.open()));
afterAll(() => site?.close());

test.each(['light', 'dark'] as const)(
  'runs of a group are one line with a band, %s',
  async theme => {
    await site.visit(
      '/metrics?m=loss&q=run.hparams.batch_size',
      async visit => {
        const { page } = visit;
        await drawn(page, 'loss');
        await page
          .getByRole('combobox', { name: 'Color by' })
          .selectOption({ label: 'hparams.optimizer' });
        await page.waitForURL(/by=param/);
        // Three optimizers, and two contexts.
        await eventually('six lines are drawn', async () => (await drawn(page, 'loss')) === 6);
        for (const name of ['Standard deviation', '95 % confidence', 'Lowest to highest']) {
          await inSettings(page, settings =>
            settings.getByRole('combobox', { name: 'Band' }).selectOption({ label: name }),
          );
          await eventually(name, async () => (await drawn(page, 'loss')) >= 6);
        }
        // A run in the list highlights its groups, one for each context; a group highlights its runs in the list.
        const list = page.getByRole('table', { name: 'Runs of the charts' });
        await list.locator('[role=row]').nth(2).hover();
        await eventually(
          'its groups are highlighted',
          async () => (await highlighted(page, 'loss')) === 2,
        );
        await page.locator('section[aria-label=loss] [role=application]').hover();
        await eventually(
          'both contexts of the group are',
          async () => (await highlighted(page, 'loss')) === 2,
        );
        await eventually(
          'so are its runs',
          async () => (await list.locator('.chosen').count()) > 1,
        );
        const optimizers = await list.locator('.chosen [role=cell]:not(.number)').allTextContents();
        expect(new Set(optimizers).size).toBe(1);
        await visit.shot(`metrics-bands-${theme}`);
        expect(await findings(page)).toEqual([]);
      },
      { theme },
    );
  },
);

test.each(['light', 'dark'] as const)('runs differ by color, stroke and chart, %s', async theme => {
  await site.visit(
    '/metrics?m=grad_norm&q=run.hparams.batch_size',
    async visit => {
      const { page } = visit;
      await drawn(page, 'grad_norm');
      await page
        .getByRole('combobox', { name: 'Color by' })
        .selectOption({ label: 'hparams.optimizer' });
      await inSettings(page, async settings => {
        await settings
          .getByRole('combobox', { name: 'Stroke by' })
          .selectOption({ label: 'hparams.model.dropout' });
        await settings
          .getByRole('combobox', { name: 'Chart by' })
          .selectOption({ label: 'Experiment' });
        expect(await findings(page)).toEqual([]);
      });
      await page.waitForURL(/by=.*stroke=.*chart=experiment/);
      const names = ['augmented', 'baseline', 'distilled'].map(name => `grad_norm · ${name}`);
      await eventually('a chart for each experiment', async () => {
        const shown = await page.locator('section h2').allTextContents();
        return shown.join() === names.join();
      });
      // Three optimizers, and three shares of dropout, as far as runs have them.
      for (const name of names)
        await eventually(`${name} has its lines`, async () => (await drawn(page, name)) > 3);
      await page.getByRole('application', { name: names[0]! }).hover();
      await page.locator('.tooltip path[stroke-dasharray]').first().waitFor({ state: 'attached' });
      await visit.shot(`metrics-strokes-${theme}`);
      expect(await findings(page)).toEqual([]);
      await visit.quiet();
      const before = await drawn(page, names[0]!);
      await inSettings(page, settings =>
        settings
          .getByRole('combobox', { name: 'Line', exact: true })
          .selectOption({ label: 'Each run' }),
      );
      await eventually('each run is a line', async () => (await drawn(page, names[0]!)) > before);
      await visit.shot(`metrics-strokes-each-${theme}`);
      await page.reload();
      await eventually(
        'the address has it all',
        async () => (await drawn(page, names[0]!)) > before,
      );
    },
    { theme },
  );
});

test('the tooltip is pinned, searched and copied by keyboard', async () => {
  await site.visit('/metrics?m=/^loss$/', async visit => {
    const { page } = visit;
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await drawn(page, 'loss');
    await page.locator('section[aria-label=loss] [role=application]').focus();
    await page.keyboard.press('ArrowRight');
    await page.locator('.tooltip').waitFor();
    await page.keyboard.press('Enter');
    const pinned = page.getByRole('dialog', { name: /^Values at step/ });
    await pinned.waitFor();
    await page.keyboard.press('Tab');
    await page.keyboard.type('sweep 45 val');
    await eventually(
      'one line is left',
      async () => (await pinned.locator('tbody tr').count()) === 1,
    );
    expect(await findings(page)).toEqual([]);
    await visit.shot('metrics-tooltip-pinned');
    await page.getByRole('button', { name: 'Copy all values' }).press('Enter');
    const copied = await eventually('it is copied', () =>
      page.evaluate(() => navigator.clipboard.readText()),
    );
    expect(copied).toMatch(/^step \d+\nresnet50 sweep 45 val\t[\d.]+$/);
    await pinned.locator('input').focus();
    await page.keyboard.press('Escape');
    await eventually('it is gone', async () => (await pinned.count()) === 0);
  });
});

test('a click pins the values, and they stay while the pointer is elsewhere', async () => {
  await site.visit('/metrics?m=/^lr$/', async ({ page }) => {
    await drawn(page, 'lr');
    const box = (await page.locator('section[aria-label=lr] [role=application]').boundingBox())!;
    await page.mouse.click(box.x + 200, box.y + 60);
    const pinned = page.getByRole('dialog', { name: /^Values at step/ });
    const name = await pinned.getAttribute('aria-label');
    await page.mouse.move(box.x + 90, box.y + 90, { steps: 3 });
    expect(await pinned.getAttribute('aria-label')).toBe(name);
    expect(new URL(page.url()).searchParams.has('from')).toBe(false);
    await page.getByRole('button', { name: 'Unpin' }).click();
    await eventually('it is gone', async () => (await pinned.count()) === 0);
  });
});

test('a smoothed line is drawn above the raw one, and the tooltip has both values', async () => {
  await site.visit(`/runs/${site.runs.hashes[5]}?m=/^grad_norm$/`, async visit => {
    const { page } = visit;
    await drawn(page, 'grad_norm');
    const lines = async (): Promise<[path: string, opacity: string | undefined][]> => {
      const svg = (await savedChart(page, 'grad_norm', 'SVG')).toString();
      const own = svg.matchAll(
        new RegExp(
          `<path d="([^"]*)"[^>]*stroke="${PALETTE[ownPlace(site.runs.hashes[5]!)]!.light}"[^>]*>`,
          'g',
        ),
      );
      return [...own].map(([all, path = '']) => [path, /stroke-opacity="([^"]*)"/.exec(all)?.[1]]);
    };
    const [[raw, opacity] = [], ...others] = await lines();
    expect([opacity, others]).toEqual([undefined, []]);
    const draws = (): Promise<string | null> =>
      page.locator('section[aria-label=grad_norm] canvas.base').getAttribute('data-draws');
    const before = await draws();
    await page.getByRole('slider', { name: /^Smoothing/ }).fill('0.9');
    await page.waitForURL(/smooth=0.9/);
    await eventually('it is drawn again', async () => (await draws()) !== before);
    const [under, above, ...more] = await lines();
    expect(more).toEqual([]);
    expect([under?.[0], above?.[1]]).toEqual([raw, undefined]);
    expect(Number(under?.[1])).toBeGreaterThan(0.1);
    expect(Number(under?.[1])).toBeLessThan(1);
    /** How far a line goes up and down from point to point, in all. */
    const travel = (path = ''): number => {
      const heights = [...path.matchAll(/[ML][\d.]+ ([\d.]+)/g)].map(([, y]) => Number(y));
      expect(heights.length).toBeGreaterThan(100);
      return heights.slice(1).reduce((sum, y, at) => sum + Math.abs(y - heights[at]!), 0);
    };
    expect(travel(above?.[0])).toBeLessThan(travel(raw) / 3);
    await page.locator('section[aria-label=grad_norm] [role=application]').hover();
    const tooltip = page.locator('.tooltip');
    await tooltip.locator('thead:has-text("smooth")').waitFor();
    const titles = await tooltip.locator('thead .value').allTextContents();
    expect(titles).toEqual(['value', 'smooth']);
    const [value = NaN, smooth = NaN] = (
      await tooltip.locator('tr.ink .value').allTextContents()
    ).map(Number);
    expect([value, smooth].every(Number.isFinite)).toBe(true);
    expect(smooth).not.toBe(value);
    await visit.shot('metrics-smooth');
  });
});

test('the x axis is an epoch or another metric', async () => {
  await site.visit('/metrics?m=/^loss$/', async visit => {
    const { page } = visit;
    await drawn(page, 'loss');
    await page.getByRole('combobox', { name: 'X axis', exact: true }).selectOption('metric');
    await page.getByRole('combobox', { name: 'Metric of the x axis' }).fill('accuracy');
    await page.keyboard.press('Enter');
    await page.waitForURL(/xm=accuracy/);
    await eventually('it is drawn again', async () => (await drawn(page, 'loss')) > 50);
    await visit.shot('metrics-x-metric');
    await page.getByRole('combobox', { name: 'X axis', exact: true }).selectOption('epoch');
    await page.getByText('No epochs were tracked').waitFor();
    await page.goto(`${visit.base}/runs/${site.runs.epochs}?x=epoch&m=accuracy`);
    expect(await drawn(page, 'accuracy')).toBe(1);
    await visit.shot('metrics-x-epoch');
  });
});

test('charts are in sections that close, and go back', async () => {
  await site.visit(`/runs/${site.runs.wide}`, async visit => {
    const { page } = visit;
    await drawn(page, 'layer0/weight0');
    const section = page.getByRole('button', { name: 'layer0 10' });
    expect(await section.getAttribute('aria-expanded')).toBe('true');
    await section.press('Enter');
    await page.waitForURL(/closed=layer0/);
    const names = (): Promise<string[]> => page.locator('section h2').allTextContents();
    await eventually('its charts are gone', async () => (await names()).length === 0);
    // The first of many sections is open at first.
    await page.getByRole('button', { name: 'layer1 10' }).press('Enter');
    await drawn(page, 'layer1/weight0');
    expect(await names()).not.toContain('layer0/weight0');
    await visit.shot('metrics-sections');
    expect(await findings(page)).toEqual([]);
    await page.goBack();
    await page.goBack();
    await drawn(page, 'layer0/weight0');
    // By the last part of their names, and all together.
    await page.getByRole('button', { name: 'Sections of charts' }).click();
    await page.getByRole('menuitem', { name: 'By last part' }).click();
    // The other sections are below its charts.
    await page.getByRole('button', { name: 'weight0 100' }).waitFor();
    await page.getByRole('searchbox', { name: /Search metrics/ }).fill('/weight3$/');
    await page.getByRole('button', { name: 'One chart of 100' }).click();
    const large = page.getByRole('dialog', { name: '100 metrics of /weight3$/' });
    await eventually('all lines are drawn', async () =>
      large
        .locator('canvas.base')
        .evaluate(one => one.dataset.series === '100')
        .catch(() => false),
    );
    await large.getByRole('combobox', { name: 'Show' }).selectOption('heat');
    await large.getByRole('application', { name: /^Heat map of/ }).press('ArrowUp');
    await large.getByText(/layer0\/weight3 .*· step 19 ·/).waitFor();
    expect(await findings(page)).toEqual([]);
  });
});

test('a part of a long line is read with the points next to it', async () => {
  const id = 'beef'.repeat(6);
  const steps = Array.from({ length: 5_000 }, (_, at) => 100n * BigInt(at));
  await publish(site.server, id, [{ kind: { case: 'createRun', value: {} } }], {
    series: [{ name: 'sparse' }],
    points: [
      {
        series: steps.map(() => 0),
        steps,
        values: steps.map(step => Math.sin(Number(step) / 300)),
      },
    ],
  });
  await site.visit(`/runs/${id}?from=200050&to=200150`, async visit => {
    await drawn(visit.page, 'sparse');
    const [read] = visit
      .requests(SeriesService.method.buckets)
      .flatMap(({ runs }) => runs[0]?.steps ?? []);
    // One point is in view.
    expect(read?.start).toBeLessThanOrEqual(200_000n);
    expect(read?.stop).toBeGreaterThan(200_200n);
    await visit.shot('zoomed-sparse');
  });
});

test.each(['', '&from=49500&to=50500'])(
  'the smoothed line averages the steps of the whole, %s',
  async zoom => {
    await site.visit(`/runs/${site.runs.spike}?m=signal&smooth=0.9${zoom}`, async visit => {
      const { page } = visit;
      await drawn(page, 'signal');
      await visit.quiet();
      const chart = (await page
        .locator('section[aria-label=signal] .chart canvas.base')
        .boundingBox())!;
      await page.mouse.move(chart.x + chart.width / 2, chart.y + chart.height / 2);
      await page.locator('.tooltip td.value').first().waitFor();
      const step = Number((await page.textContent('.tooltip header p'))?.replace(/\D/g, ''));
      const [, smooth] = await page.locator('.tooltip tbody td.digits').allTextContents();
      // The weight is for 500 steps.
      const past = 0.9 ** (1 / 500);
      let average = 0;
      for (let at = 0; at <= step; at++)
        average = average * past + 0.1 * Math.sin(at / 9_000) * (1 - past);
      expect(Math.abs(Number(smooth?.replace('−', '-')) - average)).toBeLessThan(0.002);
      // The line itself is further away.
      expect(Math.abs(0.1 * Math.sin(step / 9_000) - average)).toBeGreaterThan(0.01);
      await visit.shot(`metrics-smooth${zoom && '-zoomed'}`);
    });
  },
);

test('a zoom of an axis that is a metric is drawn once', async () => {
  const id = 'feed'.repeat(6);
  const steps = Array.from({ length: 8_000 }, (_, at) => BigInt(at >> 1));
  await publish(site.server, id, [{ kind: { case: 'createRun', value: {} } }], {
    series: [{ name: 'loss' }, { name: 'tokens' }],
    points: [
      { series: steps.map((_, at) => at % 2), steps, values: steps.map(step => 10 * Number(step)) },
    ],
  });
  await site.visit(`/runs/${id}?m=/^loss$/&x=metric&xm=tokens&from=5000&to=6000`, async visit => {
    await drawn(visit.page, 'loss');
    await visit.quiet();
    const changes = await visit.page.evaluate(async () => {
      let count = 0;
      const observer = new MutationObserver(all => (count += all.length));
      observer.observe(document.body, {
        subtree: true,
        attributes: true,
        attributeFilter: ['data-series'],
      });
      for (let frame = 0; frame < 60; frame++) await new Promise(requestAnimationFrame);
      return count;
    });
    expect(changes).toBe(0);
  });
});

test('the ends of the y axis are chosen', async () => {
  await site.visit('/metrics?m=/^lr$/', async visit => {
    const { page } = visit;
    await drawn(page, 'lr');
    const draws = (): Promise<string | null> =>
      page.locator('section[aria-label=lr] canvas.base').getAttribute('data-draws');
    const before = await draws();
    const setHighest = (text: string): Promise<void> =>
      inSettings(page, async settings => {
        await settings.getByRole('textbox', { name: 'Highest y' }).fill(text);
        await page.keyboard.press('Enter');
      });
    await setHighest('1e-4');
    await page.waitForURL(/high=0.0001/);
    await eventually('it is drawn again', async () => (await draws()) !== before);
    await visit.shot('metrics-y-ends');
    await setHighest('');
    await eventually('it is the one of the data', () => !page.url().includes('high'));
  });
});

test('outliers are ignored on request', async () => {
  await site.visit(`/runs/${site.runs.spike}`, async visit => {
    const { page } = visit;
    await drawn(page, 'signal');
    await visit.shot('metrics-outlier');
    const draws = (): Promise<string | null> =>
      page.locator('section[aria-label=signal] canvas.base').getAttribute('data-draws');
    const before = await draws();
    await page.keyboard.press('o');
    await page.waitForURL(/calm=1/);
    await eventually('it is drawn again', async () => (await draws()) !== before);
    await visit.shot('metrics-outlier-ignored');
  });
});

test('the keys of charts are listed, and act on the first chart from there', async () => {
  await site.visit('/metrics', async visit => {
    const { page } = visit;
    await page.waitForSelector('canvas.base[data-draws]');
    await page.keyboard.press('?');
    await page.keyboard.type('chart in focus');
    const titles = page.locator('dialog[open] [role=option]');
    await eventually('they are listed', async () => (await titles.count()) === 6);
    expect(await titles.locator('kbd').allTextContents()).toEqual([
      '←',
      '→',
      '+',
      '-',
      'Enter',
      'Esc',
    ]);
    await visit.shot('keys-of-charts');
    await titles.filter({ hasText: 'Zoom in' }).click();
    await page.waitForURL(/from=.*to=/);
    expect(await page.evaluate(() => document.activeElement?.getAttribute('role'))).toBe(
      'application',
    );
    await page.keyboard.press('Escape');
    await eventually('the zoom is reset', () => !page.url().includes('from='));
  });
});

test('a run that starts later is added to the charts and to a comparison, and an archived one leaves', async () => {
  const q = encodeURIComponent('run.name in ("studio", "late run")');
  const open = async (path: string): Promise<Visit> =>
    Visit.inContext(await context.newPage(), site.server, path);
  const context = await site.browser.newContext();
  const metrics = await open(`/metrics?m=/^loss$/&q=${q}`);
  const compare = await open(`/compare?q=${q}`);
  expect(await drawn(metrics.page, 'loss')).toBe(1);
  await compare.page.getByText('Choose runs to compare').waitFor();
  const id = await site.project.start('late run');
  const added = compare.page.getByRole('columnheader').filter({ hasText: 'late run' });
  await added.waitFor();
  await eventually('its line is drawn', async () => (await drawn(metrics.page, 'loss')) === 2);
  const run = await open(`/runs/${id}`);
  await run.page.click('button[aria-label="Actions for the run"]');
  await run.page.click('[role=menuitem]:has-text("Archive")');
  await eventually('its line is gone', async () => (await drawn(metrics.page, 'loss')) === 1);
  await added.waitFor({ state: 'detached' });
  expect([metrics, compare, run].flatMap(({ errors }) => errors)).toEqual([]);
  await context.close();
});

/** Number of lines that the chart of a metric highlights. */
async function highlighted(page: Page, name: string): Promise<number> {
  const overlay = page.locator(`section[aria-label="${name}"] .pointer canvas`);
  return Number(await overlay.getAttribute('data-highlighted'));
}

test.each(['light', 'dark'] as const)(
  'charts and the list of runs highlight the same run, %s',
  async theme => {
    await site.visit(
      '/metrics?m=/^(loss|accuracy|lr)$/&q=run.name.startswith(%22vit-small%22)%20and%20not%20run.active',
      async visit => {
        const { page } = visit;
        for (const name of ['loss', 'accuracy', 'lr']) await drawn(page, name);
        const list = page.getByRole('table', { name: 'Runs of the charts' });
        const chosen = list.locator('.chosen a');
        expect(await chosen.count()).toBe(0);
        // Each run has two contexts of the loss, and one of the rate.
        await list.locator('[role=row]').nth(2).hover();
        await eventually('its lines are', async () => (await highlighted(page, 'loss')) === 2);
        await eventually('in all charts', async () => (await highlighted(page, 'lr')) === 1);
        const own = await chosen.textContent();
        // The first row has the headings.
        expect(own).toBe(await list.locator('[role=rowheader] a').nth(1).textContent());
        await visit.shot(`metrics-list-${theme}`);
        expect(await findings(page)).toEqual([]);
        await page.getByRole('heading', { name: 'Metrics' }).hover();
        await eventually('no line is', async () => (await highlighted(page, 'loss')) === 0);
        await page.locator('section[aria-label=loss] [role=application]').hover();
        const name = await eventually('its row is', () => chosen.textContent());
        expect(await page.locator('.tooltip .ink .label').textContent()).toContain(name);
        await eventually('its lines are', async () => (await highlighted(page, 'accuracy')) === 2);
        await list.locator('a').first().focus();
        const first = await list.locator('a').first().textContent();
        await eventually(
          'the row with the focus is',
          async () => (await chosen.textContent()) === first,
        );
        await page.getByRole('checkbox', { name: 'List' }).click();
        await list.waitFor({ state: 'detached' });
      },
      { theme },
    );
  },
);

test('more than the newest fifty runs are shown on request', async () => {
  await site.visit('/metrics?m=/^lr$/', async visit => {
    const { page } = visit;
    const status = page.locator('.page-head > [role=status]');
    await eventually('fifty runs are shown', async () =>
      /^the newest 50 of \d+ runs$/.test((await status.textContent())?.trim() ?? ''),
    );
    const before = await drawn(page, 'lr');
    await page.getByRole('combobox', { name: 'Show' }).selectOption('200');
    await page.waitForURL(/limit=200/);
    await eventually('all runs are', async () =>
      /^\d+ runs$/.test((await status.textContent())?.trim() ?? ''),
    );
    await eventually('their lines are drawn', async () => (await drawn(page, 'lr')) > before);
    await page.goBack();
    await eventually('fifty again', async () =>
      (await status.textContent())?.includes('the newest 50 of'),
    );
  });
});

test.each([
  ['desktop', { width: 1400, height: 900 }],
  ['narrow window', { width: 640, height: 640 }],
])('the tooltip covers neither the pointer nor the nearest point, on a %s', async (name, size) => {
  const id = name === 'desktop' ? 'ace'.repeat(8) : 'bad'.repeat(8);
  const values = [0, 1, 0, 1];
  const contexts = Array.from({ length: 16 }, (_, at) => at);
  await publish(site.server, id, [{ kind: { case: 'createRun', value: {} } }], {
    series: contexts.map(at => ({
      name: 'sparse',
      context: JSON.stringify({ subset: `part ${at}` }),
    })),
    points: contexts.map(at => ({
      series: values.map(() => at),
      steps: values.map((_, step) => BigInt(step)),
      values: values.map(value => value + at / 1e6),
    })),
  });
  await site.visit(
    `/runs/${id}`,
    async visit => {
      const { page } = visit;
      await drawn(page, 'sparse');
      const box = (await page.locator('.pointer').boundingBox())!;
      const layout = layoutChart(modelOf(values), box.width, box.height);
      const tooltip = page.locator('.tooltip');
      /** Whether a place of the chart is seen next to the tooltip. */
      const isSeen = async (x: number, y: number): Promise<boolean> => {
        const over = (await tooltip.boundingBox())!;
        const left = box.x + x - over.x;
        const top = box.y + y - over.y;
        return left < -4 || left > over.width + 4 || top < -4 || top > over.height + 4;
      };
      // The points are far from each other, so the pointer may be far from the nearest one.
      for (const [x, y] of [0.1, 0.3, 0.45, 0.6, 0.8, 0.97].flatMap(x =>
        [0.03, 0.5, 0.9].map(y => [x, y]),
      )) {
        const pointer = [x! * box.width, y! * box.height] as const;
        const step = Math.min(
          Math.max(Math.round(layout.x.toValue(pointer[0])), 0),
          values.length - 1,
        );
        const point = [layout.x.toPixel(step), layout.y.toPixel(values[step]!)] as const;
        const check = async (): Promise<void> => {
          const seen = [await isSeen(...pointer), await isSeen(...point)];
          expect(seen, `at ${x} and ${y}, step ${step}`).toEqual([true, true]);
        };
        await page.mouse.move(box.x + pointer[0], box.y + pointer[1]);
        await tooltip.filter({ hasText: `step ${step}` }).waitFor();
        await check();
        await page.mouse.click(box.x + pointer[0], box.y + pointer[1]);
        await page.getByRole('dialog', { name: `Values at step ${step}` }).waitFor();
        await check();
        if (x === 0.45 && y === 0.5) await visit.shot(`tooltip-${name.replace(' ', '-')}`);
        await page.getByRole('button', { name: 'Unpin' }).click();
        await page.locator('.tooltip.pinned').waitFor({ state: 'detached' });
      }
    },
    size,
  );
});

/** A chart of one line whose steps are 0, 1, 2 and so on. */
function modelOf(values: readonly number[]): ChartModel {
  const last = Float64Array.from(values);
  const steps = Float64Array.from(values.keys());
  const data = { ...EMPTY_SERIES, steps, min: last, max: last, last };
  const series = [{ id: 'a', label: 'a', color: '#000', data, x: steps }];
  return { series, xKind: 'step', isLogX: false, isLogY: false, theme: chartTheme(undefined) };
}

test('a long view has a short address, which opens it elsewhere', async () => {
  const path = '/metrics';
  const text = `/^(loss|${Array.from({ length: 500 }, (_, at) => `weight${at}`).join('|')})$/`;
  const address = await site.visit(path, async ({ page }) => {
    await drawn(page, 'grad_norm');
    await page.getByRole('searchbox').first().fill(text);
    await page.waitForURL(/\?saved=[\w-]+$/);
    await eventually(
      'its chart is left',
      async () => (await page.locator('section h2').count()) === 1,
    );
    await page.reload();
    await drawn(page, 'loss');
    expect(await page.getByRole('searchbox').first().inputValue()).toBe(text);
    // Another change has the whole state, and going back leads to the short address again.
    const first = page.url();
    await page.keyboard.press('Escape');
    const logY = (settings: Locator): Locator => settings.getByRole('checkbox', { name: 'Log y' });
    await inSettings(page, settings => logY(settings).check());
    await page.waitForURL(url => url.href !== first && url.searchParams.has('saved'));
    await page.goBack();
    await eventually(
      'it is undone',
      async () => !(await inSettings(page, settings => logY(settings).isChecked())),
    );
    expect(page.url()).toBe(first);
    expect(await page.getByRole('searchbox').first().inputValue()).toBe(text);
    return new URL(page.url()).pathname + new URL(page.url()).search;
  });
  expect(address.length).toBeLessThan(80);
  await site.visit(address, async ({ page }) => {
    await drawn(page, 'loss');
    expect(await page.getByRole('searchbox').first().inputValue()).toBe(text);
    expect(await page.locator('section h2').allTextContents()).toEqual(['loss']);
  });
  // Another short address takes the place of the oldest of 200.
  const apps = createClient(
    AppService,
    createGrpcWebTransport({ baseUrl: site.server.addresses.query }),
  );
  const views = async (): Promise<string[]> => {
    const found = [];
    for await (const { apps: page } of apps.list({}))
      found.push(...page.filter(({ type }) => type === 'view'));
    return found.map(({ id }) => id);
  };
  while ((await views()).length < 200)
    await apps.create({ type: 'view', state: encodeCbor({ text: '?' }) });
  const before = await views();
  await site.visit(`${path}?m=${encodeURIComponent(text)}&calm=1`, async ({ page }) => {
    await drawn(page, 'loss');
    await page.keyboard.press('l');
    await page.waitForURL(/\?saved=[\w-]+$/);
    await eventually('the oldest is removed', async () => (await views()).length === 200);
    expect((await views()).slice(0, -1)).toEqual(before.slice(1));
  });
  await site.visit(`${path}?saved=none`, async ({ page }) => {
    // It may have been deleted: the page opens, and says so.
    await drawn(page, 'grad_norm');
    await page.locator('.toast.error').waitFor();
  });
});
