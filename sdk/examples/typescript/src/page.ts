// The script of page/index.html. The addresses of the server are in the URL of the page: ?ingest=…&query=…
import { countClick } from "./clicks.js";

const addresses = new URLSearchParams(location.search);
const ingestUrl = addresses.get("ingest") ?? "http://127.0.0.1:53801";
const queryUrl = addresses.get("query") ?? "http://127.0.0.1:53800";
const output = document.querySelector("output")!;

document.querySelector("button")!.addEventListener("click", async () => {
  try {
    output.textContent = await countClick(ingestUrl, queryUrl);
  } catch (error) {
    output.textContent = error instanceof Error ? error.message : String(error);
  }
});
