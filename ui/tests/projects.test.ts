/** Projects in Chromium: created, switched, described and deleted; each has its own pages. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import {
  eventually,
  findings,
  launch,
  Project,
  Server,
  Visit,
  type VisitOptions,
} from './harness.ts';

let browser: Browser;
let server: Server;

beforeAll(async () => {
  [browser, server] = await Promise.all([launch(), Server.start()]);
});

afterAll(async () => {
  await browser?.close();
  await server?.remove();
});

async function visit(
  path: string,
  use: (visit: Visit) => Promise<void>,
  options?: VisitOptions,
): Promise<void> {
  const open = await Visit.open(browser, server, path, options);
  await use(open).catch(async (error: unknown) => {
    await open.shot('failed-projects');
    open.errors.unshift(String(error));
    throw error;
  });
  await open.close();
}

test('the first project is created from the palette, and the switcher appears', async () => {
  await visit('/runs', async ({ page }) => {
    await page.getByText('pip install').waitFor();
    expect(await page.getByRole('button', { name: /^Project / }).count()).toBe(0);
    await page.keyboard.press('Control+k');
    await page.keyboard.type('new project');
    await page.keyboard.press('Enter');
    const dialog = page.getByRole('dialog', { name: 'New project' });
    await dialog.getByLabel('Name', { exact: true }).fill('Speech models, Zürich');
    expect(await dialog.getByLabel('Name in addresses').inputValue()).toBe('speech-models-zurich');
    await dialog.getByLabel('Name in addresses').fill('speech');
    expect(await findings(page)).toEqual([]);
    await dialog.getByRole('button', { name: 'Create' }).click();
    await page.waitForURL(/\/p\/speech\/$/);
    // What an empty project shows logs to it.
    expect(await page.getByRole('group', { name: 'Text' }).textContent()).toContain(
      `repo="${server.addresses.query}/p/speech"`,
    );
    await page.getByRole('button', { name: /^Project / }).click();
    await page.getByRole('menuitemradio', { name: 'My project' }).click();
    await page.waitForURL(url => url.pathname === '/');
    await page.getByRole('button', { name: /^Project / }).waitFor();
  });
});

test('a name that was given says so, and nothing is created', async () => {
  await visit('/project', async ({ page, errors }) => {
    await page.getByRole('button', { name: 'New project' }).click();
    const dialog = page.getByRole('dialog', { name: 'New project' });
    await dialog.getByLabel('Name', { exact: true }).fill('Speech');
    await dialog.getByRole('button', { name: 'Create' }).click();
    await page.locator('.toast').waitFor();
    expect(await page.locator('.toast').textContent()).toContain('Choose another name');
    expect(new URL(page.url()).pathname).toBe('/project');
    errors.splice(0);
  });
});

test.each(['light', 'dark'] as const)(
  'a project is described, and shows its size, %s',
  async theme => {
    const { query, ingest } = server.addresses;
    const addresses = { query: `${query}/p/speech`, ingest: `${ingest}/p/speech` };
    if (theme === 'light') {
      const [project] = await Project.log({ addresses });
      await project.end();
    }
    await visit(
      '/p/speech/project',
      async one => {
        const { page } = one;
        await page.getByText('studio').first().waitFor();
        await page.getByText(/^Matyan \d+\.\d+\.\d+$/).waitFor();
        await page.getByRole('button', { name: /^Description of the project/ }).click();
        await page
          .getByLabel('Description of the project')
          .fill(`Everything about speech, ${theme}.`);
        await page.keyboard.press('Control+Enter');
        await page.getByText(`Everything about speech, ${theme}.`).first().waitFor();
        await page.getByRole('button', { name: /^Name of the project/ }).click();
        await page.keyboard.type(`Speech ${theme}`);
        await page.keyboard.press('Enter');
        await page
          .getByRole('button', { name: /^Project / })
          .getByText(`Speech ${theme}`)
          .waitFor();
        await one.shot(`project-${theme}`);
        expect(await findings(page)).toEqual([]);
        await page.getByRole('button', { name: /^Project / }).click();
        await one.shot(`project-switcher-${theme}`);
      },
      { theme },
    );
  },
);

test('each project has its own runs, its own stream of changes, and links within itself', async () => {
  const { query, ingest } = server.addresses;
  const addresses = { query: `${query}/p/speech`, ingest: `${ingest}/p/speech` };
  const context = await browser.newContext();
  const own = await Visit.inContext(await context.newPage(), server, '/p/speech/');
  const other = await Visit.inContext(await context.newPage(), server, '/');
  const newest = own.page.getByRole('region', { name: 'Newest runs' }).getByRole('link').first();
  expect(await newest.getAttribute('href')).toMatch(/^\/p\/speech\/runs\//);
  await other.page.getByText('pip install').waitFor();
  for (const { page } of [own, other])
    await eventually(
      'the stream is open',
      async () => (await page.textContent('.stream'))?.trim() === 'Live',
    );
  expect(
    [own, other].map(({ calls }) => calls.filter(call => call === 'RunService/Watch').length),
  ).toEqual([1, 1]);
  // An active run is shown in its project only.
  const [project] = await Project.log({ addresses });
  await project.track(0.125);
  await own.page.locator('section[aria-label="Active runs"] b:text-is("0.125")').waitFor();
  expect(new URL(other.page.url()).pathname).toBe('/');
  await project.end();
  for (const { errors } of [own, other]) expect(errors).toEqual([]);
  await context.close();
});

test.each(['light', 'dark'] as const)(
  'an unknown project lists those that there are, %s',
  async theme => {
    await visit(
      '/p/speach/runs',
      async one => {
        const { page, errors } = one;
        await page.getByText('There is no project called “speach”').waitFor();
        await page.getByRole('link', { name: /^Speech/ }).waitFor();
        await eventually(
          'the server is not said to be away',
          async () => !(await page.textContent('.stream')),
        );
        await one.shot(`project-unknown-${theme}`);
        expect(await findings(page)).toEqual([]);
        await page.getByRole('link', { name: 'My project' }).click();
        await page.waitForURL(url => url.pathname === '/');
        // The page of runs had been asked for.
        errors.splice(0);
      },
      { theme },
    );
  },
);

test('a project is deleted after its name is typed', async () => {
  const other = await Visit.open(browser, server, '/p/speech/runs');
  await eventually(
    'the stream is open',
    async () => (await other.page.textContent('.stream'))?.trim() === 'Live',
  );
  await visit('/p/speech/project', async one => {
    const { page } = one;
    await page.getByRole('button', { name: 'Delete…' }).click();
    const dialog = page.getByRole('dialog', { name: 'Delete the project?' });
    const remove = dialog.getByRole('button', { name: 'Delete the project' });
    await dialog.getByRole('textbox').fill('speec');
    expect(await remove.isDisabled()).toBe(true);
    await page.keyboard.press('Enter');
    await dialog.getByRole('textbox').fill('speech');
    await one.shot('project-delete');
    expect(await findings(page)).toEqual([]);
    await remove.click();
    await page.waitForURL(url => url.pathname === '/');
    await page.getByText('pip install').waitFor();
    await page.goto(`${one.base}/p/speech/runs`);
    await page.getByText('There is no project called “speech”').waitFor();
    one.errors.splice(0);
    await other.page.getByText('There is no project called “speech”').waitFor();
    await other.page.context().close();
  });
});
