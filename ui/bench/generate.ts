/** Runs that are written through the API, many at a time. */
import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';

import { encodeCbor } from '../src/api/cbor_writer.ts';
import { OutcomeKind } from '../src/gen/matyan/common/v1/common_pb.ts';
import { IngestionBatchSchema } from '../src/gen/matyan/ingest/v1/batch_pb.ts';
import { IngestService } from '../src/gen/matyan/ingest/v1/ingest_pb.ts';
import { SearchService } from '../src/gen/matyan/search/v1/search_pb.ts';
import { eventually, type Server } from '../tests/harness.ts';

type Batch = MessageInitShape<typeof IngestionBatchSchema>;

const AT_A_TIME = 48;
const OPTIMIZERS = ['adam', 'sgd', 'lion'];
const EXPERIMENTS = ['baseline', 'augmented', 'distilled', 'ablation'];
const STEPS_OF_WIDE = 40;
export const POINTS = Number(process.env.MATYAN_POINTS ?? 10_000_000);
/** Step of the one point of a long series that is far from the others. */
export const SPIKE = Math.floor(POINTS * 0.54321);
const SPIKE_VALUE = 100;
/** As many points as one batch may have for one series. */
const POINTS_A_BATCH = 100_000;

export function runId(number: number): string {
  return (number + 1).toString(16).padStart(24, '0');
}

/** A run with params, a tag, and two metrics of three points each. */
export function runBatch(number: number, isActive = false): Batch {
  const spread = (number * 7919) % 10_007;
  const params = {
    hparams: {
      lr: 10 ** -(1 + (spread % 40) / 10),
      batch_size: 2 ** (4 + (spread % 5)),
      optimizer: OPTIMIZERS[spread % 3] ?? '',
    },
  };
  const finish = { case: 'finishRun' as const, value: { outcome: { kind: OutcomeKind.FINISHED } } };
  const value = { name: `run ${number}`, experiment: EXPERIMENTS[number % 4] ?? '' };
  return {
    series: [{ name: 'loss' }, { name: 'accuracy', context: '{"subset":"val"}' }],
    events: [
      { kind: { case: 'createRun', value: {} } },
      { kind: { case: 'setRunProperty', value } },
      { kind: { case: 'logParams', value: { value: encodeCbor(params) } } },
      ...(number % 50 === 0
        ? [{ kind: { case: 'addTag' as const, value: { name: 'best' } } }]
        : []),
      ...(isActive ? [] : [{ kind: finish }]),
    ],
    points: [0, 1].map(series => ({
      series: [series, series, series],
      values: [0, 1, 2].map(step => series + (1 - 2 * series) * Math.exp(-step - spread / 5_000)),
      steps: [0n, 1n, 2n],
    })),
  };
}

/** Writes batches to a server, and knows when they can be found. */
export class Writer {
  readonly #ingest;
  readonly #search;

  constructor({ addresses }: Server) {
    const to = (baseUrl: string) => createGrpcWebTransport({ baseUrl });
    this.#ingest = createClient(IngestService, to(addresses.ingest));
    this.#search = createClient(SearchService, to(addresses.query));
  }

  async publish(number: number, batch: Batch): Promise<void> {
    const bytes = toBinary(IngestionBatchSchema, create(IngestionBatchSchema, batch));
    await this.#ingest.publish({ runId: runId(number), batch: bytes });
  }

  /** Writes runs; resolves when searches find all of them. */
  async runs(count: number, isActive = false): Promise<void> {
    let next = 0;
    const write = async (): Promise<void> => {
      while (next < count) {
        const number = next++;
        await this.publish(number, runBatch(number, isActive));
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, write));
    await eventually('all runs are found', async () => (await this.#count()) >= count, 600_000);
  }

  async #count(): Promise<number> {
    let found = 0;
    for await (const { matchCount } of this.#search.runs({ count: true, limit: 1, idsOnly: true }))
      found = Number(matchCount);
    return found;
  }
}

function nameOf(series: number): string {
  return `layer${Math.floor(series / 10)}/weight${series % 10}`;
}

/** Adds many short series to a run. */
export async function writeWide(writer: Writer, run: number, count: number): Promise<void> {
  const series = Array.from({ length: count }, (_, number) => ({ name: nameOf(number) }));
  const numbers = series.map((_, number) => number);
  const points = Array.from({ length: STEPS_OF_WIDE }, (_, step) => ({
    series: numbers,
    values: numbers.map(number => Math.exp(-step / 20) + number / count + run / 100),
    steps: numbers.map(() => BigInt(step)),
  }));
  await writer.publish(run, { series, points });
}

/** Adds a long series with one spike to a run. */
export async function writeLong(writer: Writer, run: number): Promise<void> {
  for (let first = 0; first < POINTS; first += POINTS_A_BATCH) {
    const length = Math.min(POINTS_A_BATCH, POINTS - first);
    const steps = Array.from({ length }, (_, at) => first + at);
    await writer.publish(run, {
      series: [{ name: 'signal' }],
      points: [
        {
          series: steps.map(() => 0),
          values: steps.map(step => (step === SPIKE ? SPIKE_VALUE : Math.sin(step / 9_000))),
          steps: steps.map(BigInt),
        },
      ],
    });
  }
}
