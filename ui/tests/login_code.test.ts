/**
 * Signing a program in, in Chromium: a person types the code that `matyan login` shows, sees what the program asks for, and
 * allows or refuses it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

import { AccessService, Role } from '../src/gen/matyan/access/v1/access_pb.ts';
import { ExperimentService } from '../src/gen/matyan/experiments/v1/experiments_pb.ts';
import { ProjectService } from '../src/gen/matyan/project/v1/project_pb.ts';
import { clientOf } from './client_of.ts';
import { findings, launch, Server, Visit } from './harness.ts';

/** A code that no program waits with. */
const WRONG_CODE = 'BBBB-BBBB';

let browser: Browser;
let server: Server;
/** The folder in which the commands keep their tokens. */
let folder: string;

beforeAll(async () => {
  [browser, server, folder] = await Promise.all([
    launch(),
    Server.start({ hasAccess: true }),
    mkdtemp(join(tmpdir(), 'matyan-login-')),
  ]);
  const operator = await server.operatorToken();
  const { query } = server.addresses;
  await clientOf(ProjectService, operator, query).create({ name: 'speech', displayName: 'Speech' });
  const access = clientOf(AccessService, operator, `${query}/p/speech`);
  await access.grant({ principal: 'lea', role: Role.EDITOR });
});

afterAll(async () => {
  await browser?.close();
  await server?.remove();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** The commands of a test, which may still run if it has failed. */
const commands = new Set<Command>();

afterEach(() => {
  for (const command of commands) command.kill();
  commands.clear();
});

interface Ended {
  exitCode: number;
  output: string;
  errors: string;
}

/** A command on another machine, which has only the tokens that `matyan login` keeps. */
class Command {
  #output = '';
  #errors = '';
  readonly #process;
  readonly #ended: Promise<unknown[]>;

  constructor(words: string[]) {
    const env: NodeJS.ProcessEnv = { ...process.env, XDG_CONFIG_HOME: folder };
    delete env.MATYAN_TOKEN;
    const args = [...words, '--server', server.addresses.query];
    this.#process = spawn(process.env.MATYAN_BIN!, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env,
    });
    this.#process.stdout.on('data', text => (this.#output += text));
    this.#ended = once(this.#process, 'close');
    // The error of a command that cannot be started is thrown where its end is awaited.
    this.#ended.catch(() => {});
    commands.add(this);
  }

  /** The code in what the command says. */
  async code(): Promise<string> {
    for await (const line of createInterface(this.#process.stderr)) {
      this.#errors += `${line}\n`;
      const code = /type the code (\S+)/.exec(line)?.[1];
      if (!code) continue;
      this.#process.stderr.on('data', text => (this.#errors += text));
      this.#process.stderr.resume();
      return code;
    }
    await this.#ended;
    throw new Error(`the command shows no code: ${this.#errors}`);
  }

  async end(): Promise<Ended> {
    const [exitCode] = (await this.#ended) as [number];
    return { exitCode, output: this.#output, errors: this.#errors };
  }

  /** Ends the command if it still runs. */
  kill(): void {
    this.#process.kill('SIGKILL');
  }
}

/** Opens the page for codes by the menu of a browser that a link has signed in. */
async function openForm(): Promise<Visit> {
  const operator = await server.operatorToken();
  const access = clientOf(AccessService, operator, `${server.addresses.query}/p/speech`);
  const { secret } = await access.createLink({ principal: 'lea' });
  const open = await Visit.open(browser, server, `/p/speech/sign-in#${secret}`);
  const { page } = open;
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('button', { name: 'Signed in as lea' }).click();
  await page.getByRole('link', { name: 'Sign a program in' }).click();
  await page.getByLabel('Code that the program shows').waitFor();
  return open;
}

async function type(page: Page, code: string): Promise<void> {
  await page.getByLabel('Code that the program shows').fill(code);
  await page.keyboard.press('Enter');
}

/** Pictures of a page in both themes, without anything that is hard to read. */
async function shots(open: Visit, name: string): Promise<void> {
  const { page } = open;
  for (const theme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme: theme });
    expect(await findings(page)).toEqual([]);
    await open.shot(`${name}-${theme}`);
  }
}

test('a program gets the token that its person allows', async () => {
  const open = await openForm();
  const { page } = open;
  await shots(open, 'sign-in-code');
  const flags = ['--project', 'speech', '--limit', 'viewer', '--days', '7'];
  const login = new Command(['login', '--code', '--json', ...flags]);
  const code = await login.code();
  await type(page, WRONG_CODE);
  await page.getByRole('alert').filter({ hasText: 'No program waits' }).waitFor();
  await shots(open, 'sign-in-code-wrong');
  // As people type it.
  await type(page, code.toLowerCase());
  await page.getByText('A program asks for a token, with which it acts as lea').waitFor();
  const asked = await page.locator('dl').innerText();
  for (const text of ['matyan login on ', '127.0.0.1', 'speech', 'viewer', '7 days'])
    expect(asked).toContain(text);
  // The address, and so the history, has no code.
  expect(page.url()).toMatch(/\/sign-in\/code$/);
  await shots(open, 'sign-in-code-question');
  await page.getByRole('button', { name: 'Allow' }).click();
  await page.getByRole('status').filter({ hasText: 'signed in as lea' }).waitFor();
  await shots(open, 'sign-in-code-allowed');

  const { exitCode, output, errors } = await login.end();
  expect(exitCode, errors).toBe(0);
  expect(JSON.parse(output)).toMatchObject({ principal: 'lea', project: 'speech' });
  const kept = await readFile(join(folder, 'matyan', 'tokens.json'), 'utf8');
  const [token] = /mtk_\w+/.exec(kept)!;
  expect(await page.content()).not.toContain(token);
  const { query } = server.addresses;
  const caller = await clientOf(AccessService, token, `${query}/p/speech`).getCaller({});
  expect(caller.principal).toBe('lea');
  const read = await new Command(['runs', 'ls', '--project', 'speech']).end();
  expect(read.exitCode, read.errors).toBe(0);
  // Its person is an editor, and has limited it to reading.
  const experiments = clientOf(ExperimentService, token, `${query}/p/speech`);
  await expect(experiments.create({ name: 'mine' })).rejects.toThrow('this needs the role editor');
  // The page has errors in its console for the wrong code.
  open.errors.splice(0);
  await open.close();
});

test('a program that is refused gets no token', async () => {
  const open = await openForm();
  const { page } = open;
  const login = new Command(['login', '--code']);
  await type(page, await login.code());
  await page.getByRole('button', { name: 'Refuse' }).click();
  await page.getByText('The program gets no token').waitFor();
  expect(await findings(page)).toEqual([]);
  const { exitCode, errors } = await login.end();
  expect([exitCode === 0, errors]).toEqual([false, expect.stringContaining('refused')]);
  await open.close();
});
