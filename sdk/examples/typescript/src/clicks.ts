// Writes and reads a point over gRPC-web, with nothing that a browser does not have.
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { IngestionBatchSchema } from "../gen/matyan/ingest/v1/batch_pb.js";
import { IngestService } from "../gen/matyan/ingest/v1/ingest_pb.js";
import { SearchService } from "../gen/matyan/search/v1/search_pb.js";

/** Stores a click in a new run, and returns what the server then has. */
export async function countClick(ingestUrl: string, queryUrl: string): Promise<string> {
  const runId = crypto.randomUUID();
  const batch = create(IngestionBatchSchema, {
    series: [{ name: "clicks" }],
    events: [{ kind: { case: "createRun", value: {} } }],
    points: [{ series: [0], values: [1] }],
  });

  // Browsers cannot stream requests, so every batch is a call. With a producer id and a sequence, it may be repeated.
  const ingest = createClient(IngestService, createGrpcWebTransport({ baseUrl: ingestUrl }));
  const { position, rejections } = await ingest.publish({
    runId,
    producerId: crypto.getRandomValues(new Uint8Array(16)),
    sequence: 1n,
    batch: toBinary(IngestionBatchSchema, batch),
  });
  if (position === undefined || rejections.length > 0) throw new Error("the server rejected the batch");

  const backend = createClient(SearchService, createGrpcWebTransport({ baseUrl: queryUrl }));
  const request = { query: { text: `run.hash == "${runId}"` }, points: { case: "none", value: true } } as const;
  const headers = { "matyan-after": `${position.log}/${position.partition}/${position.offset}` };
  const found = [];
  for await (const { runs } of backend.metrics(request, { headers })) {
    found.push(...runs.flatMap(({ series }) => series));
  }
  return found.map(({ name, last }) => `run ${runId}: the last of ${name} is ${last}`).join("\n");
}
