/** A run of another tracker's client, next to the runs of the project. */
import { afterAll, beforeAll, expect, test } from 'vitest';

import { drawn, eventually, findings, Site, type Visit } from './harness.ts';

/** The name that MLflow's client for Python gives itself. */
const AGENT = 'mlflow-python-client/3.17.2';

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site?.close());

/** Sends a request as MLflow's clients do, and returns the answer. */
async function send<T>(path: string, body: object): Promise<T> {
  const response = await fetch(`${site.server.addresses.query}/api/2.0/mlflow/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'user-agent': AGENT },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}

/** Creates a run in its own experiment, and returns its id. It stays active. */
async function createRun(name: string, experiment: string): Promise<string> {
  const { experiment_id } = await send<{ experiment_id: string }>('experiments/create', {
    name: experiment,
  });
  const { run } = await send<{ run: { info: { run_id: string } } }>('runs/create', {
    experiment_id,
    run_name: name,
    start_time: Date.now(),
  });
  return run.info.run_id;
}

/** A name that no other experiment has, also if a test is repeated. */
function newName(): string {
  return `mlflow ${crypto.randomUUID()}`;
}

/** Logs a point of the metric `loss`, and params. */
async function log(run_id: string, step: number, value: number, params = {}): Promise<void> {
  const metrics = [{ key: 'loss', value, timestamp: Date.now(), step }];
  const texts = Object.entries(params).map(([key, value]) => ({ key, value }));
  await send('runs/log-batch', { run_id, metrics, params: texts });
}

function where(condition: string): string {
  return `q=${encodeURIComponent(condition)}`;
}

/** Waits until the legend of a chart has this last value. */
async function shows({ page }: Visit, value: number): Promise<void> {
  await page.locator('section[aria-label=loss] .legend b', { hasText: `${value}` }).waitFor();
}

test.each(['light', 'dark'] as const)(
  'a run of MLflow says so, and is searched, compared and charted like others, %s',
  async theme => {
    const name = 'of a notebook';
    const experiment = newName();
    const run = await createRun(name, experiment);
    for (const step of [0, 1, 2]) await log(run, step, 0.5 - step / 8, { lr: '0.125' });
    const own = site.runs.hashes[0]!;
    await site.visit(
      `/runs?${where(`run.experiment == "${experiment}" and run.hparams.lr == 0.125`)}`,
      async visit => {
        const { page } = visit;
        const row = page.locator('.table .row:not(.head)');
        await row.getByRole('link', { name, exact: true }).waitFor();
        expect(await row.count()).toBe(1);
        expect(await row.getByTitle('Made by MLflow 3.17.2').textContent()).toBe('MLflow');
        await visit.shot(`mlflow-table-${theme}`);
        expect(await findings(page)).toEqual([]);
        // The runs of our own client have none.
        await page.goto(`${visit.base}/runs?${where(`run.hash in ["${run}", "${own}"]`)}`);
        await row.nth(1).getByRole('link').first().waitFor();
        expect(await page.getByTitle(/^Made by/).count()).toBe(1);
        for (const box of await row.getByRole('checkbox').all()) await box.click();
        await page.getByRole('button', { name: 'Compare 2' }).click();
        await page.getByRole('rowheader', { name: 'hparams.lr' }).waitFor();
        await page.getByText('0.125').waitFor();
        await page.getByRole('tab', { name: 'Charts' }).click();
        // The other run has two lines.
        await eventually('both are drawn', async () => (await drawn(page, 'loss')) === 3);
        await shows(visit, 0.25);
      },
      { theme },
    );
    await site.visit(
      `/runs/${run}?tab=overview`,
      async visit => {
        const { page } = visit;
        await page.locator('.badge', { hasText: 'MLflow 3.17.2' }).waitFor();
        await visit.shot(`mlflow-run-${theme}`);
        expect(await findings(page)).toEqual([]);
      },
      { theme },
    );
  },
);

test('the page of a run gets the points of an MLflow client that is still running', async () => {
  const run = await createRun('still running', newName());
  await log(run, 0, 0.5);
  await site.visit(`/runs/${run}`, async visit => {
    const { page } = visit;
    await shows(visit, 0.5);
    await page.getByTitle('Live', { exact: true }).waitFor();
    for (const step of [1, 2, 3]) {
      await log(run, step, step / 8);
      await shows(visit, step / 8);
    }
    const status = page.locator('dl .status').first();
    expect((await status.textContent())?.trim()).toBe('Running');
    await send('runs/update', { run_id: run, status: 'FINISHED', end_time: Date.now() });
    await page.locator('dl .status', { hasText: 'Finished' }).waitFor();
  });
});
