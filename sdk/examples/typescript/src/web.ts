// Writes and reads a point over gRPC-web. It uses nothing that a browser does not have, except for the environment.
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { IngestionBatchSchema } from "../gen/matyan/ingest/v1/batch_pb.js";
import { IngestService } from "../gen/matyan/ingest/v1/ingest_pb.js";
import { SearchService } from "../gen/matyan/search/v1/search_pb.js";

const INGEST_URL = process.env.MATYAN_FRONTIER_URL ?? "http://127.0.0.1:53801";
const QUERY_URL = process.env.MATYAN_BACKEND_URL ?? "http://127.0.0.1:53800";

async function main(): Promise<void> {
  const runId = crypto.randomUUID();
  const batch = create(IngestionBatchSchema, {
    series: [{ name: "clicks" }],
    events: [{ kind: { case: "createRun", value: {} } }],
    points: [{ series: [0], values: [1] }],
  });

  // Browsers cannot stream requests, so every batch is a call. With a producer id and a sequence, it may be repeated.
  const ingest = createClient(IngestService, createGrpcWebTransport({ baseUrl: INGEST_URL }));
  const { position, rejections } = await ingest.publish({
    runId,
    producerId: crypto.getRandomValues(new Uint8Array(16)),
    sequence: 1n,
    batch: toBinary(IngestionBatchSchema, batch),
  });
  if (position === undefined || rejections.length > 0) throw new Error("the server rejected the batch");

  const backend = createClient(SearchService, createGrpcWebTransport({ baseUrl: QUERY_URL }));
  const request = { query: { text: `run.hash == "${runId}"` }, points: { case: "none", value: true } } as const;
  const headers = { "matyan-after": `${position.log}/${position.partition}/${position.offset}` };
  for await (const { runs } of backend.metrics(request, { headers })) {
    const found = runs.flatMap(({ series }) => series);
    for (const { name, last } of found) console.log(`run ${runId}: the last of ${name} is ${last}`);
  }
}

main().catch((error) => {
  console.error(`web: ${INGEST_URL}, ${QUERY_URL}: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
});
