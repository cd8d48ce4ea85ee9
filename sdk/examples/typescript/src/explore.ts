// The script of page/explore.html: the runs that a query finds, as a table of groups, a live chart, and a file.
// The address of the server is in the URL of the page: ?query=http://127.0.0.1:53800
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { SeriesType } from "../gen/matyan/common/v1/common_pb.js";
import { ExportService, Format } from "../gen/matyan/export/v1/export_pb.js";
import { type GroupValue, GroupOrder, MetricValue, SearchService } from "../gen/matyan/search/v1/search_pb.js";
import { Chart } from "./chart.js";

const CHARTED_RUNS = 50;
const PAGE_SIZE = 1000;

const baseUrl = new URLSearchParams(location.search).get("query") ?? "http://127.0.0.1:53800";
const transport = createGrpcWebTransport({ baseUrl });
const search = createClient(SearchService, transport);

const output = document.querySelector("output")!;
const table = document.querySelector("table")!;
const form = document.querySelector("form")!;

interface Options {
  query: { text: string };
  metric: { name: string; context: string };
  by: string[];
  order: GroupOrder;
  format: string;
  signal: AbortSignal;
}

function readForm(signal: AbortSignal): Options {
  const field = (name: string) => String(new FormData(form).get(name));
  return {
    query: { text: field("query") },
    metric: { name: field("metric"), context: field("context") },
    by: field("by").split(",").map((path) => path.trim()),
    order: GroupOrder[field("order") as keyof typeof GroupOrder],
    format: field("format"),
    signal,
  };
}

/** Shows groups of runs, with an aggregate of the last values of the metric. */
async function showTable(options: Options): Promise<void> {
  const { query, metric, by, order, signal } = options;
  table.replaceChildren();
  addRow([...by, "runs", "mean", "min"]);
  let cursor = "";
  do {
    const request = {
      query,
      by: by.map((path) => ({ by: { case: "param", value: { segments: path.split(".") } } }) as const),
      aggregates: [{ of: { case: "metric", value: metric }, metricValue: MetricValue.LAST } as const],
      order,
      cursor,
    };
    const { groups, nextCursor } = await search.groups(request, { signal });
    for (const { values, runCount, aggregates, token } of groups) {
      const { mean, min } = aggregates[0];
      const row = addRow([...values.map(groupText), String(runCount), String(mean ?? "-"), String(min ?? "-")]);
      row.addEventListener("click", () => perform(() => showRuns(options, token, row)), { once: true });
    }
    cursor = nextCursor;
  } while (cursor !== "");
  output.textContent = `${table.rows.length - 1} groups`;
}

/** Shows the runs of a group under its row, sorted by the last value of the metric. */
async function showRuns({ query, metric }: Options, group: string, row: HTMLTableRowElement): Promise<void> {
  let count = 0;
  let cursor = "";
  do {
    const request = {
      query,
      group,
      sort: [{ by: { case: "metric", value: metric }, metricValue: MetricValue.LAST } as const],
      parts: { seriesTypes: [SeriesType.METRIC], seriesKeys: [metric] },
      limit: PAGE_SIZE,
      cursor,
    };
    let last: { done: boolean; nextCursor: string } | undefined;
    for await (const response of search.runs(request)) {
      for (const { runId, series } of response.runs) {
        count += 1;
        addRow(["", runId, String(series[0]?.last ?? "-")], row.rowIndex + count);
      }
      last = response;
    }
    if (!last?.done) throw new Error("the search ended before its last message");
    // Only the last message has a cursor, and none if there are no more runs.
    cursor = last.nextCursor;
  } while (cursor !== "");
}

function addRow(texts: string[], place = -1): HTMLTableRowElement {
  const row = table.insertRow(place);
  for (const text of texts) row.insertCell().textContent = text;
  return row;
}

function groupText({ value }: GroupValue): string {
  return value.case === undefined ? "-" : String(value.value);
}

/** Draws the newest runs, and continues until another button is clicked. */
async function showChart({ query, metric, signal }: Options): Promise<void> {
  const runIds: string[] = [];
  let complete = false;
  for await (const response of search.runs({ query, limit: CHARTED_RUNS, idsOnly: true }, { signal })) {
    runIds.push(...response.runIds);
    complete = response.done;
  }
  if (!complete) throw new Error("the search ended before its last message");
  const chart = new Chart(document.querySelector("canvas")!, runIds, metric, (text) => (output.textContent = text));
  // For the console of the browser.
  Object.assign(globalThis, { chart });
  await chart.follow(transport, signal);
}

/** Downloads all points of the metric. The file is offered once it is complete. */
async function download({ query, metric, format, signal }: Options): Promise<void> {
  const request = {
    query: { ...query, reportProgress: true },
    names: [metric.name],
    format: Format[format as keyof typeof Format],
  };
  const data: BlobPart[] = [];
  let done = false;
  for await (const { piece } of createClient(ExportService, transport).metrics(request, { signal })) {
    if (piece === undefined) continue;
    data.push(piece.data.slice());
    done = piece.done;
    output.textContent = `${piece.rows} rows, ${piece.progress?.checked} of ${piece.progress?.total} runs`;
  }
  if (!done) throw new Error("the export ended before its last piece");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(data));
  link.download = `${metric.name}.${format.toLowerCase()}`;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function perform(task: () => Promise<void>, signal?: AbortSignal): Promise<void> {
  try {
    await task();
  } catch (error) {
    if (!signal?.aborted) output.textContent = error instanceof Error ? error.message : String(error);
  }
}

const tasks: Record<string, (options: Options) => Promise<void>> = {
  table: showTable,
  chart: showChart,
  export: download,
  stop: async () => void (output.textContent = "stopped"),
};
let running = new AbortController();

form.addEventListener("submit", (event) => {
  event.preventDefault();
  // Ends the previous task, and its work on the server.
  running.abort();
  running = new AbortController();
  const options = readForm(running.signal);
  const task = tasks[(event.submitter as HTMLButtonElement).value];
  perform(() => task(options), running.signal);
});
