// Runs the client for browsers in Node.js.
import { countClick } from "./clicks.js";

const INGEST_URL = process.env.MATYAN_FRONTIER_URL ?? "http://127.0.0.1:53801";
const QUERY_URL = process.env.MATYAN_BACKEND_URL ?? "http://127.0.0.1:53800";

countClick(INGEST_URL, QUERY_URL).then(console.log, (error) => {
  console.error(`web: ${INGEST_URL}, ${QUERY_URL}: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
});
