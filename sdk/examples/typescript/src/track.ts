// Tracks a run over gRPC, searches for it, and prints what was found.
import { randomBytes } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";

import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { decode, encode } from "cborg";

import { type LogPosition, OutcomeKind } from "../gen/matyan/common/v1/common_pb.js";
import { EventSchema, IngestionBatchSchema, PointsSchema, SeriesDefSchema } from "../gen/matyan/ingest/v1/batch_pb.js";
import { IngestService, type StreamRequest, StreamRequestSchema } from "../gen/matyan/ingest/v1/ingest_pb.js";
import type { Run } from "../gen/matyan/runs/v1/run_pb.js";
import { SearchService } from "../gen/matyan/search/v1/search_pb.js";

const INGEST_URL = process.env.MATYAN_FRONTIER_URL ?? "http://127.0.0.1:53801";
const QUERY_URL = process.env.MATYAN_BACKEND_URL ?? "http://127.0.0.1:53800";
const TOKEN = process.env.MATYAN_TOKEN ?? "";

const PARAMS = { hparams: { lr: 0.01, layers: [64, 64] } };
const LOSSES = Array.from({ length: 1000 }, (_, step) => Math.exp(-step / 200));
const STEPS_PER_BATCH = 100;

// Points refer to series by their number in this dictionary.
const DICTIONARY = [create(SeriesDefSchema, { name: "loss", context: '{"subset": "train"}' })];

// Connections in a row that fail before the program gives up. A training program would continue.
const ATTEMPTS = 5;

// Connect reports a connection that is cut during a call as canceled or aborted.
const LOST_CONNECTION = new Set([Code.Unavailable, Code.Canceled, Code.Aborted]);

/** Sends the token with each call, to a server with access control. */
const bearerToken: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${TOKEN}`);
  return next(request);
};
const interceptors = TOKEN === "" ? [] : [bearerToken];

function makeBatches(): Uint8Array[] {
  const event = (kind: MessageInitShape<typeof EventSchema>["kind"]) => create(EventSchema, { kind });
  const batches = [
    create(IngestionBatchSchema, {
      series: DICTIONARY,
      events: [
        event({ case: "createRun", value: {} }),
        event({ case: "setRunProperty", value: { experiment: "clients" } }),
        event({ case: "logParams", value: { value: encode(PARAMS) } }),
      ],
    }),
  ];
  for (let start = 0; start < LOSSES.length; start += STEPS_PER_BATCH) {
    const values = LOSSES.slice(start, start + STEPS_PER_BATCH);
    const steps = values.map((_, index) => BigInt(start + index));
    const points = create(PointsSchema, { series: values.map(() => 0), values, steps });
    batches.push(create(IngestionBatchSchema, { points: [points] }));
  }
  const finishRun = { outcome: { kind: OutcomeKind.FINISHED } };
  batches.push(create(IngestionBatchSchema, { events: [event({ case: "finishRun", value: finishRun })] }));
  return batches.map((batch) => toBinary(IngestionBatchSchema, batch));
}

/** The messages of one stream, which continues after the batches that were acknowledged. */
async function* streamRequests(
  runId: string,
  producerId: Uint8Array,
  acknowledged: number,
  batches: Uint8Array[],
): AsyncIterable<StreamRequest> {
  const known = create(IngestionBatchSchema, { series: acknowledged > 0 ? DICTIONARY : [] });
  const open = {
    runId,
    producerId,
    acknowledged: BigInt(acknowledged),
    dictionary: toBinary(IngestionBatchSchema, known),
  };
  yield create(StreamRequestSchema, { message: { case: "open", value: open } });
  for (let at = acknowledged; at < batches.length; at++) {
    const batch = { sequence: BigInt(at + 1), batch: batches[at] };
    yield create(StreamRequestSchema, { message: { case: "batch", value: batch } });
  }
}

/**
 * Sends all batches, and returns the position in the log up to which they are stored.
 *
 * Nothing is stored twice: after a lost connection, what was not acknowledged is sent again with the same producer id,
 * the same sequences and the same bytes.
 */
async function send(
  ingest: Client<typeof IngestService>,
  runId: string,
  batches: Uint8Array[],
): Promise<LogPosition> {
  const producerId = randomBytes(16);
  let acknowledged = 0;
  let position: LogPosition | undefined;
  let failures = 0;
  while (position === undefined || acknowledged < batches.length) {
    try {
      for await (const response of ingest.stream(streamRequests(runId, producerId, acknowledged, batches))) {
        for (const rejection of response.rejections) {
          throw new Error(`the server rejected \`${rejection.field}\`: ${rejection.reason}`);
        }
        acknowledged = Number(response.sequence);
        position = response.position;
        failures = 0;
      }
    } catch (error) {
      failures += 1;
      if (!(error instanceof ConnectError) || !LOST_CONNECTION.has(error.code) || failures === ATTEMPTS) throw error;
      await setTimeout(1000);
    }
  }
  return position;
}

/** Returns the run with its params, and all points of its loss. */
async function search(
  backend: Client<typeof SearchService>,
  runId: string,
  position: LogPosition,
): Promise<{ run: Run; values: number[] }> {
  const request = {
    query: { text: `run.hash == "${runId}" and metric.name == "loss"` },
    parts: { props: true, params: true },
    points: { case: "density", value: 0 },
    columns: { values: true },
  } as const;
  // The answer includes everything up to this position.
  const headers = { "matyan-after": `${position.log}/${position.partition}/${position.offset}` };
  let run: Run | undefined;
  const values: number[] = [];
  for await (const response of backend.metrics(request, { headers })) {
    // A long series is split over several messages, and only the first has the parts of the run.
    for (const piece of response.runs) {
      run ??= piece.run;
      for (const series of piece.points) values.push(...series.values);
    }
    if (response.done && run) return { run, values };
  }
  throw new Error("the search ended before its last message, or did not find the run");
}

async function main(): Promise<void> {
  const runId = randomBytes(16).toString("hex");
  const ingest = createClient(IngestService, createGrpcTransport({ baseUrl: INGEST_URL, interceptors }));
  const position = await naming(INGEST_URL, send(ingest, runId, makeBatches()));
  const backend = createClient(SearchService, createGrpcTransport({ baseUrl: QUERY_URL, interceptors }));
  const { run, values } = await naming(QUERY_URL, search(backend, runId, position));
  const params = decode(run.params);
  if (!isDeepStrictEqual(params, PARAMS) || !isDeepStrictEqual(values, LOSSES)) {
    throw new Error(`run ${runId} is not as it was tracked: ${JSON.stringify(params)}, ${values.length} points`);
  }
  console.log(`run ${runId} of ${run.props?.experiment?.name}: ${JSON.stringify(params)}`);
  console.log(`loss: ${values.length} points, from ${values[0]} to ${values.at(-1)}`);
}

/** Adds the URL of the server to an error. */
async function naming<T>(url: string, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw new Error(`${url}: ${error instanceof Error ? error.message : error}`);
  }
}

try {
  await main();
} catch (error) {
  console.error(`track: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
