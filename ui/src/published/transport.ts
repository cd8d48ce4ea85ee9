/**
 * The transport of a published copy: it answers the calls of its pages from files. Its code is loaded by copies
 * only.
 */
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import {
  Code,
  ConnectError,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
} from '@connectrpc/connect';

import { dataUrl, published } from '../api/published.ts';
import { rootPath } from '../api/transport.ts';
import { AppService } from '../gen/matyan/apps/v1/apps_pb.ts';
import { ArtifactService } from '../gen/matyan/artifacts/v1/artifacts_pb.ts';
import { DashboardService } from '../gen/matyan/dashboards/v1/dashboards_pb.ts';
import { LogService } from '../gen/matyan/logs/v1/logs_pb.ts';
import { MetricService } from '../gen/matyan/metrics/v1/metrics_pb.ts';
import { NoteService } from '../gen/matyan/notes/v1/notes_pb.ts';
import { ProjectService } from '../gen/matyan/project/v1/project_pb.ts';
import { ReportService } from '../gen/matyan/reports/v1/reports_pb.ts';
import { RunService } from '../gen/matyan/runs/v1/runs_pb.ts';
import { SearchService } from '../gen/matyan/search/v1/search_pb.ts';
import { SeriesService, type RunSelection } from '../gen/matyan/series/v1/series_pb.ts';
import { emptyOf, type RunTab } from '../pages/run/contents.ts';
import { CopyAnswers, readAhead } from './answers.ts';
import { CopyFiles } from './files.ts';
import { CopiedPages } from './pages.ts';

type Answer = (request: never, signal?: AbortSignal) => AsyncIterable<Uint8Array>;

const answers = new Map<DescMethod, Answer>();

/** Says how a method is answered; a unary method is answered with one message. */
function answer<I extends DescMessage, O extends DescMessage>(
  method: DescMethod & { input: I; output: O },
  messages: (
    request: MessageShape<I>,
    signal?: AbortSignal,
  ) => AsyncIterable<MessageInitShape<O>> | Promise<MessageInitShape<O>>,
): void {
  answers.set(method, async function* (request: never, signal) {
    const found = messages(request, signal);
    const all = Symbol.asyncIterator in found ? found : [await found];
    for await (const message of all)
      yield toBinary(method.output, create(method.output, message) as never);
  });
}

/** Metrics of other runs that are read at the same time. */
const RUNS_AT_A_TIME = 12;

const inFolder = (folder: string): CopyFiles =>
  new CopyFiles(undefined, path => dataUrl(rootPath, `${folder}${path}`));
const files = new CopyFiles();
/** The pages of a copy of several runs; a page of one run needs its files only. */
const several =
  published && published.pages.length > 0 && published.page !== 'run'
    ? new CopiedPages(files, folder => inFolder(`runs/${folder}/`), BigInt(published.atMs) * 1000n)
    : undefined;
const own = new CopyAnswers(published?.folder ? inFolder(published.folder) : files, files);

/** The answers to the calls about a run. */
async function copyOf(runId: string): Promise<CopyAnswers> {
  return several ? several.run(runId) : own;
}

function pages(): CopiedPages {
  if (several) return several;
  throw unable();
}

function unable(): ConnectError {
  return new ConnectError(
    'a published copy cannot do this: ask who has published it for the address of the server',
    Code.Unimplemented,
  );
}

/** Whether the copy was published without the artifacts of its run. */
export async function artifactsAreOmitted(): Promise<boolean> {
  return several === undefined && (await own.run()).omitsArtifacts;
}

/** The tabs of the run of this page that have nothing in them. */
export async function emptyTabs(): Promise<RunTab[]> {
  const { run, artifacts, sequences, lines, recordCount } = await own.run();
  const seriesCount = run?.series.length ?? 0;
  return emptyOf(
    { series: run?.series ?? [], seriesCount, artifacts, moreArtifacts: false },
    {
      hasObjects: sequences.length > 0,
      hasLines: lines?.lastStep !== undefined,
      hasRecords: recordCount > 0n,
    },
  );
}

/** Reads series of each run of a request, and says which of its runs they belong to. */
async function* ofEachRun<T extends { place?: { run: number; series: number } | undefined }>(
  runs: readonly RunSelection[],
  read: (copy: CopyAnswers, selection: RunSelection) => AsyncIterable<T>,
): AsyncGenerator<T> {
  const all = readAhead([...runs.entries()], RUNS_AT_A_TIME, async ([at, selection]) => {
    const found: T[] = [];
    for await (const one of read(await copyOf(selection.runId), selection)) {
      if (one.place) one.place.run = at;
      found.push(one);
    }
    return found;
  });
  for await (const found of all) yield* found;
}

answer(RunService.method.get, async ({ runId }) => {
  const { run } = await (await copyOf(runId)).run();
  if (run?.runId === runId) return { run };
  throw new ConnectError(`the copy has no run ${runId}`, Code.NotFound);
});
answer(RunService.method.batchGet, ({ runIds, parts }) => pages().batch(runIds, parts));
answer(SeriesService.method.list, async ({ runId }) => ({
  series: (await (await copyOf(runId)).run()).run?.series ?? [],
}));
answer(SeriesService.method.buckets, async function* (request, signal) {
  const read = (copy: CopyAnswers, selection: RunSelection) =>
    copy.buckets({ ...request, runs: [selection] }, signal);
  for await (const one of ofEachRun(request.runs, read)) yield { series: [one] };
});
answer(SeriesService.method.sample, async function* ({ runs }, signal) {
  const read = (copy: CopyAnswers, selection: RunSelection) => copy.epochs([selection], signal);
  for await (const one of ofEachRun(runs, read)) yield { series: [one] };
});
answer(SeriesService.method.points, async function* ({ run }, signal) {
  if (!run) return;
  const copy = await copyOf(run.runId);
  for await (const points of copy.points(run, signal)) yield { points };
});
answer(LogService.method.lines, async (request, signal) =>
  (await copyOf(request.runId)).lines(request, signal),
);
answer(LogService.method.records, async (request, signal) =>
  (await copyOf(request.runId)).records(request, signal),
);
answer(NoteService.method.list, async () => ({ notes: (await own.run()).notes }));
answer(MetricService.method.listGoals, async () => ({
  goals: several ? (await several.pages()).goals : (await own.run()).goals,
}));
answer(SearchService.method.runs, request => pages().search(request));
answer(SearchService.method.groups, request => pages().groups(request));
answer(SearchService.method.objects, async function* (request, signal) {
  if (several) return yield* several.objects(request, signal);
  const sequences = await own.sequences(request, signal);
  const { run } = await own.run();
  const { runId = '', props } = run ?? {};
  yield { runs: [{ run: { runId, ...(props && { props }) }, sequences }], done: true };
});
answer(ProjectService.method.findColumns, request => pages().columns(request));
answer(ReportService.method.get, async () => present((await pages().pages()).report, 'report'));
answer(DashboardService.method.get, async () =>
  present((await pages().pages()).dashboard?.dashboard, 'dashboard'),
);
answer(AppService.method.get, async () => present((await pages().pages()).dashboard?.app, 'app'));
answer(ArtifactService.method.list, async ({ runId }) => ({
  artifacts: (await (await copyOf(runId)).run()).artifacts,
}));
answer(ArtifactService.method.get, async function* ({ runId, path, length }, signal) {
  const copy = await copyOf(runId);
  const value = await copy.artifact(path, Number(length ?? 2n ** 53n), signal);
  yield { message: { case: 'chunk' as const, value } };
});

/** A document of the copy as the field of an answer. */
function present<T, N extends string>(document: T | undefined, name: N): { [K in N]: T } {
  if (document !== undefined) return { [name]: document } as { [K in N]: T };
  throw new ConnectError(`the copy has no ${name}`, Code.NotFound);
}

/** Callers may replace the output of a method, so the method is found by its name. */
function answerOf(method: DescMethod): Answer {
  const known = [...answers].find(
    ([{ parent, name }]) => parent.typeName === method.parent.typeName && name === method.name,
  );
  if (known) return known[1];
  throw unable();
}

async function unary<I extends DescMessage, O extends DescMessage>(
  method: DescMethod & { input: I; output: O },
  signal: AbortSignal | undefined,
  input: MessageInitShape<I>,
): Promise<MessageShape<O>> {
  const request = create(method.input, input);
  for await (const bytes of answerOf(method)(request as never, signal))
    return fromBinary(method.output, bytes);
  throw new ConnectError('the copy has no answer', Code.Internal);
}

async function* decoded<O extends DescMessage>(
  output: O,
  messages: AsyncIterable<Uint8Array>,
): AsyncGenerator<MessageShape<O>> {
  for await (const bytes of messages) yield fromBinary(output, bytes);
}

export const publishedTransport: Transport = {
  async unary(method, signal, _timeoutMs, _header, input) {
    const message = await unary(method, signal, input);
    const response = { stream: false, service: method.parent, method, message };
    return { ...response, header: new Headers(), trailer: new Headers() } as UnaryResponse<
      typeof method.input,
      typeof method.output
    >;
  },
  async stream(method, signal, _timeoutMs, _header, input) {
    const find = answerOf(method);
    const messages = (async function* () {
      for await (const request of input)
        yield* find(create(method.input, request) as never, signal);
    })();
    const response = { stream: true, service: method.parent, method };
    return {
      ...response,
      header: new Headers(),
      trailer: new Headers(),
      message: decoded(method.output, messages),
    } as unknown as StreamResponse<typeof method.input, typeof method.output>;
  },
};
