/**
 * A server with a project, and a browser. The server is the real binary with the UI that it contains; each file of
 * tests starts its own, on free ports. Every error on a page fails the test that opened it.
 */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import type { DescMessage, DescMethod, MessageShape } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import type axe from 'axe-core';
import {
  chromium,
  type Browser,
  type CDPSession,
  type Locator,
  type Page,
  type Request,
} from 'playwright-core';
import { inject } from 'vitest';

import { IngestionBatchSchema, type EventSchema } from '../src/gen/matyan/ingest/v1/batch_pb.ts';
import { IngestService } from '../src/gen/matyan/ingest/v1/ingest_pb.ts';
import { SearchService } from '../src/gen/matyan/search/v1/search_pb.ts';
import { CHROMIUM } from './chromium.ts';
import { secretsInData, secretsInOutput } from './secrets_at_rest.ts';

const ROOT = join(import.meta.dirname, '..');

/** The smaller build, because each page has to parse it. */
const AXE = await readFile(join(ROOT, 'node_modules/axe-core/axe.min.js'), 'utf8');

/** Streams that have no end. */
const ENDLESS = /\.RunService\/Watch$/;
/** A flag and the length of the message, before each message of gRPC-web. */
const FRAME_HEAD_BYTES = 5;

/** Keeps a broken server or page from hanging; no passing test waits for it. */
const GUARD_MS = 60_000;
/** More stops of the tab key than any page has before what a test looks for. */
const MAX_STOPS = 150;

export async function launch(): Promise<Browser> {
  if (!CHROMIUM) throw new Error('Chromium is not on the PATH: `apt-get install chromium`');
  // The sandbox does not work as root, and the pages are trusted.
  return chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
}

export async function eventually<T>(
  what: string,
  read: () => T | Promise<T>,
  guardMs = GUARD_MS,
): Promise<NonNullable<T>> {
  const end = Date.now() + guardMs;
  for (;;) {
    const value = await read();
    if (value) return value;
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await sleep(50);
  }
}

interface Addresses {
  query: string;
  ingest: string;
}

export class Server {
  /** The directory of another UI, which the next start serves. */
  ui: string | undefined;
  readonly #folder: string;
  #process: ChildProcessWithoutNullStreams | undefined;
  #output = '';
  addresses: Addresses = { query: '', ingest: '' };

  private constructor(
    folder: string,
    readonly hasAccess: boolean,
    readonly variables: Record<string, string>,
  ) {
    this.#folder = folder;
  }

  /**
   * With access control the server answers principals with a token only. `variables` are settings. `data` is a data
   * directory, which is copied.
   */
  static async start({
    hasAccess = false,
    variables = {},
    data,
  }: {
    hasAccess?: boolean;
    variables?: Record<string, string>;
    data?: string | undefined;
  } = {}): Promise<Server> {
    const folder = await mkdtemp(join(tmpdir(), 'matyan-ui-'));
    const server = new Server(folder, hasAccess, variables);
    if (data) await cp(data, server.data, { recursive: true });
    await server.run('0', '0');
    return server;
  }

  /** Starts the process, again on the same ports after a stop. */
  async run(
    port = portOf(this.addresses.query),
    ingestPort = portOf(this.addresses.ingest),
  ): Promise<void> {
    const ready = join(this.#folder, 'ready.json');
    await rm(ready, { force: true });
    const binary = process.env.MATYAN_BIN;
    if (!binary) throw new Error('MATYAN_BIN is not set: name the server binary');
    const args = ['up', '--port', port, '--frontier-port', ingestPort, '--data-dir', this.data];
    args.push('--ready-file', ready, '--log-level', 'warn');
    if (this.ui) args.push('--ui-dir', this.ui);
    if (this.hasAccess) args.push('--access', 'on');
    const env = { ...process.env, ...this.variables };
    this.#process = spawn(binary, args, { stdio: 'pipe', env });
    for (const stream of [this.#process.stdout, this.#process.stderr])
      stream.on('data', text => (this.#output += text));
    const { exited } = track(this.#process);
    await eventually('the server is ready', () => {
      if (exited()) throw new Error(`the server ended:\n${this.#output}`);
      return existsSync(ready);
    });
    this.addresses = JSON.parse(await readFile(ready, 'utf8')) as Addresses;
  }

  get data(): string {
    return join(this.#folder, 'data');
  }

  /** The token of the first operator of a server with access control. */
  async operatorToken(): Promise<string> {
    return (await readFile(join(this.data, 'operator-token'), 'utf8')).trim();
  }

  async stop(): Promise<void> {
    if (!this.#process) return;
    const { ended } = track(this.#process);
    this.#process.kill('SIGTERM');
    await ended;
    this.#process = undefined;
    if (!this.hasAccess) return;
    const left = [...secretsInOutput(this.#output), ...(await secretsInData(this.data))];
    if (left.length > 0) throw new Error(`secrets are left:\n${left.join('\n')}`);
  }

  async remove(): Promise<void> {
    await this.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

function portOf(url: string): string {
  return new URL(url).port;
}

function track(child: ChildProcessWithoutNullStreams): {
  exited: () => boolean;
  ended: Promise<void>;
} {
  const exited = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const ended = new Promise<void>(resolve =>
    exited() ? resolve() : child.once('exit', () => resolve()),
  );
  return { exited, ended };
}

/** Logs events of a run, and points of the `series` of the call, through the API. */
export async function publish(
  { addresses }: Server,
  runId: string,
  events: MessageInitShape<typeof EventSchema>[],
  metrics: Pick<MessageInitShape<typeof IngestionBatchSchema>, 'series' | 'points'> = {},
): Promise<void> {
  const client = createClient(IngestService, createGrpcWebTransport({ baseUrl: addresses.ingest }));
  const batch = toBinary(
    IngestionBatchSchema,
    create(IngestionBatchSchema, { events, ...metrics }),
  );
  const { rejectedItems } = await client.publish({ runId, batch });
  if (rejectedItems > 0) throw new Error('the server rejected events');
}

/** The number of runs that match a query now: what was published is applied a moment later. */
export async function matchCount({ addresses }: Server, text: string): Promise<number> {
  const client = createClient(SearchService, createGrpcWebTransport({ baseUrl: addresses.query }));
  let count = 0;
  const request = { query: { text }, idsOnly: true, limit: 1, count: true };
  for await (const { matchCount } of client.runs(request)) count = Number(matchCount ?? 0);
  return count;
}

/** The runs of `project.py`. */
export interface ProjectRuns {
  hashes: string[];
  strange: string;
  wide: string;
  /** Has media, logs, artifacts and an environment. */
  studio: string;
  spike: string;
  /** Its points have epochs. */
  epochs: string;
  live: string;
}

/** A data directory with the runs of `project.py` that end. */
export interface FilledProject {
  data: string;
  runs: ProjectRuns;
}

declare module 'vitest' {
  interface ProvidedContext {
    filled: FilledProject | undefined;
  }
}

/** Logs the project with the Python SDK. */
export class Project {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  /** Not shared with other tests, which may leave data for servers that are gone. */
  readonly #spools: string;
  #errors = '';

  private constructor({ query, ingest }: Addresses, spools: string, part: string[]) {
    this.#spools = spools;
    const python = process.env.MATYAN_SDK_PYTHON ?? 'python3';
    const script = join(import.meta.dirname, 'project.py');
    this.#process = spawn(python, [script, query, ingest, ...part], {
      stdio: 'pipe',
      env: { ...process.env, MATYAN_QUIET: '1', MATYAN_SPOOL_DIR: spools },
    });
    this.#process.stderr.on('data', text => (this.#errors += text));
    this.#lines = createInterface(this.#process.stdout)[Symbol.asyncIterator]();
  }

  /** Logs the project, or the active run only if the server has a copy of the other runs. */
  static async log(
    server: Pick<Server, 'addresses'>,
    filled?: ProjectRuns,
  ): Promise<[Project, ProjectRuns]> {
    const part = filled ? [JSON.stringify(filled)] : [];
    const project = await Project.#start(server, part);
    const runs = JSON.parse(await project.#line()) as ProjectRuns;
    // Once the server has the active run.
    await project.#line();
    return [project, runs];
  }

  /** Logs the runs that end. */
  static async fill(server: Pick<Server, 'addresses'>): Promise<ProjectRuns> {
    const project = await Project.#start(server, ['fill']);
    const runs = JSON.parse(await project.#line()) as ProjectRuns;
    await project.end();
    return runs;
  }

  static async #start({ addresses }: Pick<Server, 'addresses'>, part: string[]): Promise<Project> {
    return new Project(addresses, await mkdtemp(join(tmpdir(), 'matyan-ui-spools-')), part);
  }

  /** Tracks a value in the live run. Resolves when the server has it. */
  async track(value: number): Promise<void> {
    this.#process.stdin.write(`${value}\n`);
    await this.#line();
  }

  /** Tracks images of 900 × 1200 pixels in the live run. Resolves when the server has them. */
  async images(count: number): Promise<void> {
    this.#process.stdin.write(`images ${count}\n`);
    await this.#line();
  }

  /** Starts a run and keeps it active. Returns its id when the server has it. */
  start(name: string): Promise<string> {
    this.#process.stdin.write(`start ${name}\n`);
    return this.#line();
  }

  /** Logs a run that leaves the first one after step 99. Returns its id when the server has it. */
  branch(): Promise<string> {
    this.#process.stdin.write('branch\n');
    return this.#line();
  }

  /** Ends the active runs. */
  async end(): Promise<void> {
    const { ended } = track(this.#process);
    this.#process.stdin.end();
    await ended;
    await rm(this.#spools, { recursive: true, force: true });
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`the project ended:\n${this.#errors}`);
    return value;
  }
}

export interface VisitOptions {
  theme?: 'light' | 'dark';
  width?: number;
  height?: number;
  /** The reader's zone, such as `Asia/Tokyo`. */
  timezoneId?: string;
}

/** A page with everything that went wrong on it. */
export class Visit {
  readonly errors: string[] = [];
  /** Calls of the API, by the name of the method. */
  readonly calls: string[] = [];
  readonly #requests: Request[] = [];
  readonly #running = new Set<Request>();
  #started = 0;

  private constructor(
    readonly page: Page,
    readonly base: string,
  ) {
    page.on('console', message => message.type() === 'error' && this.errors.push(message.text()));
    page.on('pageerror', error => this.errors.push(`exception: ${error.message}`));
    page.on('request', request => {
      this.#started += 1;
      if (!ENDLESS.test(request.url())) this.#running.add(request);
      const method = /\/matyan\.\w+\.v1\.(\w+\/\w+)$/.exec(request.url())?.[1];
      if (!method) return;
      this.calls.push(method);
      this.#requests.push(request);
    });
    for (const event of ['requestfinished', 'requestfailed'] as const)
      page.on(event as 'requestfinished', request => this.#running.delete(request));
    page.on('requestfailed', request => {
      // A page aborts the reads of what has left the screen.
      const reason = request.failure()?.errorText;
      if (reason !== 'net::ERR_ABORTED') this.errors.push(`${request.url()}: ${reason}`);
    });
  }

  static async open(
    browser: Browser,
    server: Server,
    path: string,
    options: VisitOptions = {},
  ): Promise<Visit> {
    const { theme = 'light', width = 1400, height = 900, timezoneId } = options;
    const context = await browser.newContext({
      ...(timezoneId && { timezoneId }),
      viewport: { width, height },
      colorScheme: theme,
      acceptDownloads: true,
    });
    context.setDefaultTimeout(GUARD_MS);
    return Visit.inContext(await context.newPage(), server, path);
  }

  static async inContext(page: Page, server: Server, path: string): Promise<Visit> {
    const base = server.addresses.query;
    const visit = new Visit(page, base);
    return visit.#open(path);
  }

  async #open(path: string): Promise<this> {
    await this.page.goto(this.base + path);
    await this.quiet();
    return this;
  }

  /**
   * The requests that were sent to a method. Other calls may come and go, so tests count those that
   * they are about.
   */
  requests<I extends DescMessage>({
    parent,
    name,
    input,
  }: DescMethod & { input: I }): MessageShape<I>[] {
    return this.#requests
      .filter(request => request.url().endsWith(`/${parent.typeName}/${name}`))
      .map(request => fromBinary(input, request.postDataBuffer()!.subarray(FRAME_HEAD_BYTES)));
  }

  /** Waits until all requests have ended, and the page has shown their results without starting others. */
  async quiet(): Promise<void> {
    await eventually('the page is quiet', async () => {
      const before = this.#started;
      if (this.#running.size > 0) return false;
      await this.page.evaluate(
        () => new Promise(done => requestAnimationFrame(() => requestIdleCallback(done))),
      );
      return this.#running.size === 0 && this.#started === before;
    });
  }

  async shot(name: string): Promise<void> {
    const folder = process.env.MATYAN_SCREENSHOTS ?? join(ROOT, 'screenshots');
    await mkdir(folder, { recursive: true });
    await this.page.screenshot({ path: join(folder, `${name}.png`) });
  }

  async close(): Promise<void> {
    // The handler of a test may be waiting for an answer.
    await this.page.unrouteAll({ behavior: 'ignoreErrors' });
    await this.page.context().close();
    if (this.errors.length > 0) throw new Error(this.errors.join('\n'));
  }
}

/** Memory, elements and listeners of a page. */
interface Usage {
  Nodes: number;
  JSEventListeners: number;
  JSHeapUsedSize: number;
}

/** Counts after all garbage is collected. */
export async function usage(session: CDPSession): Promise<Usage> {
  for (let round = 0; round < 3; round++) await session.send('HeapProfiler.collectGarbage');
  const { metrics } = await session.send('Performance.getMetrics');
  return Object.fromEntries(metrics.map(({ name, value }) => [name, value])) as unknown as Usage;
}

/** Goes to another page and waits for it. */
export async function go(page: Page, path: string, ready: string): Promise<void> {
  // Like a link on the page, without loading the document again.
  await page.evaluate(path => {
    const link = document.createElement('a');
    link.href = path;
    document.body.append(link);
    link.click();
    link.remove();
  }, path);
  // A handle of an element, as other functions return it, would keep its page in memory.
  await page.locator(ready).first().waitFor();
}

/** Waits until the chart of a metric is drawn with some lines, and returns their number. */
export async function drawn(page: Page, name: string): Promise<number> {
  const canvas = page.locator(`section[aria-label="${name}"] canvas.base`);
  return eventually(
    `${name} is drawn`,
    async () => Number(await canvas.getAttribute('data-series')) || 0,
  );
}

/** Waits until every chart in view has been drawn with its series. */
export async function allDrawn(page: Page): Promise<void> {
  await eventually('charts are drawn', () =>
    page.evaluate(() => {
      const charts = [...document.querySelectorAll<HTMLCanvasElement>('canvas.base')];
      return (
        charts.length > 0 &&
        charts.every(chart => Number(chart.dataset.draws) >= 1 && chart.dataset.series !== '0')
      );
    }),
  );
}

/** The colors of the runs that a page shows next to their names. */
export function colorsOf(page: Page): Promise<Record<string, string>> {
  return page.evaluate(() => {
    const links = [...document.querySelectorAll<HTMLAnchorElement>('main a[href*="/runs/"]')];
    const colors = links.flatMap(link => {
      const swatch = link.parentElement?.querySelector('svg rect[style]');
      const id = /runs\/(\w+)/.exec(link.href)?.[1];
      return swatch && id ? [[id, getComputedStyle(swatch).fill]] : [];
    });
    return Object.fromEntries(colors) as Record<string, string>;
  });
}

/** Presses the tab key until an element of a selector has the focus. */
export async function tabTo(page: Page, selector: string): Promise<void> {
  const stops: string[] = [];
  const isThere = (selector: string): boolean => document.activeElement?.matches(selector) ?? false;
  while (!(await page.evaluate(isThere, selector))) {
    stops.push(
      await page.evaluate(
        () => (document.activeElement?.cloneNode() as HTMLElement | undefined)?.outerHTML ?? '',
      ),
    );
    if (stops.length > MAX_STOPS)
      throw new Error(`${selector} is no stop of the tab key:\n${stops.join('\n')}`);
    await page.keyboard.press('Tab');
  }
}

/** Elements that have moved since the document was opened, without being moved by the reader. */
export async function layoutShifts(page: Page): Promise<string[]> {
  return page.evaluate(
    () =>
      new Promise<string[]>(done => {
        const moves: string[] = [];
        const observer = new PerformanceObserver(list => {
          for (const entry of list.getEntries() as LayoutShift[])
            for (const { node, previousRect: from, currentRect: to } of entry.sources)
              moves.push(
                `${node instanceof Element ? (node.cloneNode() as Element).outerHTML : (node?.textContent ?? 'gone')}: ` +
                  [from, to]
                    .map(({ x, y, width, height }) => [x, y, width, height].join())
                    .join(' to '),
              );
        });
        observer.observe({ type: 'layout-shift', buffered: true });
        // Earlier moves come with the next task.
        setTimeout(() => (observer.disconnect(), done(moves)), 200);
      }),
  );
}

interface LayoutShift extends PerformanceEntry {
  sources: { node: Node | null; previousRect: DOMRectReadOnly; currentRect: DOMRectReadOnly }[];
}

/** Keeps the answers of a method back until the returned function is called. */
export async function held(page: Page, method: string): Promise<() => Promise<void>> {
  let release = (): void => {};
  const released = new Promise<void>(resolve => (release = resolve));
  const address = `**/*.${method}`;
  const continued: Promise<void>[] = [];
  await page.route(address, route => {
    const answer = released.then(() => route.continue());
    continued.push(answer);
    return answer;
  });
  return async () => {
    release();
    await Promise.all(continued);
    await page.unroute(address);
  };
}

/** Calls `make`, and waits until the page has been notified of a change since. */
export async function untilNotified(page: Page, make: () => Promise<unknown>): Promise<void> {
  await page.evaluate(() => {
    const notified = new Promise<void>(done => {
      new BroadcastChannel('matyan-live /').onmessage = ({ data }) =>
        data.kind === 'changes' && done();
    });
    Object.assign(globalThis, { notified });
  });
  await make();
  await page.evaluate(() => (globalThis as unknown as { notified: Promise<void> }).notified);
}

/** Does something in the settings that the toolbar of the page opens. */
export async function inSettings<T>(
  page: Page,
  act: (settings: Locator) => Promise<T>,
): Promise<T> {
  const settings = page.getByRole('dialog', { name: 'Settings', exact: true });
  await page.getByRole('button', { name: /^Settings/ }).click();
  await settings.waitFor();
  const result = await act(settings);
  await page.keyboard.press('Escape');
  await settings.waitFor({ state: 'hidden' });
  return result;
}

/**
 * The findings of axe on the page. On a page in dark colors, axe checks colors only: each test of a dark page does the
 * same on a light page, where axe checks everything.
 */
export async function findings(page: Page): Promise<string[]> {
  const isLoaded = await page.evaluate(() => 'axe' in globalThis);
  if (!isLoaded) await page.evaluate(AXE);
  return page.evaluate(async () => {
    const isDark = matchMedia('(prefers-color-scheme: dark)').matches;
    // By default, the result names each element that passes a rule, with a selector for it.
    const { violations } = await (globalThis as unknown as { axe: typeof axe }).axe.run({
      resultTypes: ['violations'],
      selectors: false,
      // Only rules about media that play by themselves, which no page has, wait for what is loaded.
      preload: false,
      ...(isDark && { runOnly: ['color-contrast', 'link-in-text-block'] }),
    });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' | ')}`);
  });
}

/** A browser, and a server with the project. */
export class Site {
  #visits = 0;

  private constructor(
    readonly browser: Browser,
    readonly server: Server,
    readonly project: Project,
    readonly runs: ProjectRuns,
  ) {}

  static async open(): Promise<Site> {
    const filled = inject('filled');
    const [browser, server] = await Promise.all([launch(), Server.start({ data: filled?.data })]);
    return new Site(browser, server, ...(await Project.log(server, filled?.runs)));
  }

  /** Opens a page, and fails if anything went wrong on it. */
  async visit<T>(
    path: string,
    use: (visit: Visit) => Promise<T>,
    options?: VisitOptions,
  ): Promise<T> {
    const open = await Visit.open(this.browser, this.server, path, options);
    this.#visits += 1;
    const result = await use(open).catch(async (error: unknown) => {
      await open.shot(`failed-${this.#visits}`);
      open.errors.unshift(String(error));
      throw error;
    });
    await open.close();
    return result;
  }

  async close(): Promise<void> {
    await this.project.end();
    await this.browser.close();
    await this.server.remove();
  }
}

/** Saves a chart as a file. The picture has no title, so that only the chart is in it. */
export async function savedChart(
  page: Page,
  name: string,
  kind: 'PNG' | 'SVG' | 'CSV',
  hasNames = false,
): Promise<Buffer> {
  await page.click(`button[aria-label="Actions for ${name}"]`);
  const title = kind === 'CSV' ? 'Download all points (CSV)' : 'Save as a picture';
  const dialog = page.getByRole('dialog', { name: `Picture of ${name}` });
  const waiting = page.waitForEvent('download');
  await page.locator(`[role=menuitem]:has-text("${title}"):visible`).click();
  if (kind !== 'CSV') {
    await dialog.getByRole('checkbox', { name: 'Title and legend' }).setChecked(hasNames);
    await dialog.getByRole('button', { name: kind, exact: true }).click();
  }
  const content = await readFile(await (await waiting).path());
  if (kind !== 'CSV') {
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
  }
  return content;
}
