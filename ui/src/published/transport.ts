/**
 * The transport of a published copy: it answers the calls of a run's page from files. Its code is loaded by copies
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

import { ArtifactService } from '../gen/matyan/artifacts/v1/artifacts_pb.ts';
import { LogService } from '../gen/matyan/logs/v1/logs_pb.ts';
import { MetricService } from '../gen/matyan/metrics/v1/metrics_pb.ts';
import { NoteService } from '../gen/matyan/notes/v1/notes_pb.ts';
import { RunService } from '../gen/matyan/runs/v1/runs_pb.ts';
import { SearchService } from '../gen/matyan/search/v1/search_pb.ts';
import { SeriesService } from '../gen/matyan/series/v1/series_pb.ts';
import { CopyAnswers } from './answers.ts';
import { CopyFiles } from './files.ts';

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

const copy = new CopyAnswers(new CopyFiles());

/** Whether the copy was published without the artifacts of its run. */
export async function artifactsAreOmitted(): Promise<boolean> {
  return (await copy.run()).omitsArtifacts;
}

answer(RunService.method.get, async ({ runId }) => {
  const { run } = await copy.run();
  if (run?.runId === runId) return { run };
  throw new ConnectError(`the copy has no run ${runId}`, Code.NotFound);
});
answer(SeriesService.method.list, async () => ({ series: (await copy.run()).run?.series ?? [] }));
answer(SeriesService.method.buckets, async function* (request, signal) {
  for await (const one of copy.buckets(request, signal)) yield { series: [one] };
});
answer(SeriesService.method.sample, async function* ({ runs }, signal) {
  for await (const one of copy.epochs(runs, signal)) yield { series: [one] };
});
answer(SeriesService.method.points, async function* ({ run }, signal) {
  if (run) for await (const points of copy.points(run, signal)) yield { points };
});
answer(LogService.method.lines, (request, signal) => copy.lines(request, signal));
answer(LogService.method.records, (request, signal) => copy.records(request, signal));
answer(NoteService.method.list, async () => ({ notes: (await copy.run()).notes }));
answer(MetricService.method.listGoals, async () => ({ goals: (await copy.run()).goals }));
answer(SearchService.method.objects, async (request, signal) => {
  const sequences = await copy.sequences(request, signal);
  const { run } = await copy.run();
  const { runId = '', props } = run ?? {};
  return { runs: [{ run: { runId, ...(props && { props }) }, sequences }], done: true };
});
answer(ArtifactService.method.list, async () => ({ artifacts: (await copy.run()).artifacts }));
answer(ArtifactService.method.get, async function* ({ path, length }, signal) {
  const value = await copy.artifact(path, Number(length ?? 2n ** 53n), signal);
  yield { message: { case: 'chunk' as const, value } };
});

/** Callers may replace the output of a method, so the method is found by its name. */
function answerOf(method: DescMethod): Answer {
  const known = [...answers].find(
    ([{ parent, name }]) => parent.typeName === method.parent.typeName && name === method.name,
  );
  if (known) return known[1];
  throw new ConnectError(
    'a published copy cannot do this: ask who has published it for the address of the server',
    Code.Unimplemented,
  );
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
