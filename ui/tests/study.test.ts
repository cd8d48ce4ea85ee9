/** The page of a study, and the link to it in the list of experiments. */
import { createClient, type Client } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { Direction, StudyService, TrialState } from '../src/gen/matyan/studies/v1/studies_pb.ts';
import { eventually, findings, Site } from './harness.ts';

const DISTRIBUTION = JSON.stringify({
  name: 'FloatDistribution',
  attributes: { step: null, low: 0, high: 1, log: false },
});

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site?.close());

function server(): Client<typeof StudyService> {
  const { query } = site.server.addresses;
  return createClient(StudyService, createGrpcWebTransport({ baseUrl: query }));
}

/** Creates a study in which higher values are better, and returns its number. */
async function createStudy(name: string): Promise<number> {
  const { study } = await server().create({ name, directions: [Direction.MAXIMIZE] });
  return study!.studyId;
}

/** Adds a trial that is complete. */
async function addTrial(studyId: number, lr: number, value: number): Promise<void> {
  const { number } = await server().createTrial({ studyId });
  const param = { name: 'lr', value: lr, distribution: DISTRIBUTION };
  await server().setTrialParam({ studyId, number, param });
  await server().setTrialState({ studyId, number, state: TrialState.COMPLETE, values: [value] });
}

test.each(['light', 'dark'] as const)(
  'a study shows its trials as they end, the best one first, %s',
  async theme => {
    const studyId = await createStudy(`tuning ${theme}`);
    await site.visit(
      `/studies/${studyId}`,
      async visit => {
        const { page } = visit;
        await page.getByRole('heading', { name: 'No trials yet' }).waitFor();
        const rows = page.locator('.window [role=row]');
        const order = async (): Promise<string> => {
          const texts = await rows.locator('[role=cell]:first-child').allTextContents();
          return texts.map(text => text.replace(/\s*best/, ' best').trim()).join(', ');
        };
        await addTrial(studyId, 0.25, 0.7);
        await eventually('the trial is there', async () => (await order()) === '0 best');
        await addTrial(studyId, 0.5, 0.9);
        await server().createTrial({ studyId });
        await eventually('the better one is first', async () => (await order()) === '1 best, 0, 2');
        const counts = page.locator('.page-head');
        await counts.getByText('2 complete').waitFor();
        await counts.getByText('1 running').waitFor();
        expect(await rows.nth(0).getByRole('cell').allTextContents()).toContain('0.5');
        await visit.shot(`study-${theme}`);
        expect(await findings(page)).toEqual([]);
      },
      { theme },
    );
  },
);

test('the list of experiments leads to a study, and says if studies cannot be read', async () => {
  const studyId = await createStudy('linked');
  await site.visit('/experiments', async visit => {
    const { page } = visit;
    const row = page.locator('.window [role=row]', { hasText: 'linked' });
    const link = row.getByRole('link', { name: 'study', exact: true });
    expect(await link.getAttribute('href')).toBe(`/studies/${studyId}`);
    await page.route('**/*.StudyService/List', route => route.fulfill({ status: 503 }));
    await page.reload();
    await page.getByRole('alert').getByRole('button', { name: 'Retry' }).waitFor();
    await row.waitFor();
    expect(await link.count()).toBe(0);
    await page.unroute('**/*.StudyService/List');
    await page.getByRole('alert').getByRole('button', { name: 'Retry' }).click();
    await link.waitFor();
    expect(visit.errors.splice(0).every(text => text.includes('503'))).toBe(true);
  });
});
