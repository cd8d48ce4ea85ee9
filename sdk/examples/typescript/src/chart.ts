// A chart of a metric of many runs, which grows while they are written.
import { Code, ConnectError, type Transport } from "@connectrpc/connect";

import { FollowResponseSchema, type SeriesPoints, SampleResponseSchema } from "../gen/example/columns/v1/columns_pb.js";
import { SeriesService } from "../gen/matyan/series/v1/series_pb.js";

// Calls of the API, with responses that are decoded to columns of bytes.
const FOLLOW = { ...SeriesService.method.follow, output: FollowResponseSchema };
const SAMPLE = { ...SeriesService.method.sample, output: SampleResponseSchema };

// A longer history is thinned by the server.
const MAX_POINTS = 2000;

// The server sends a message at least every 10 s.
const SILENCE_MS = 30_000;

// With these, another attempt would fail as well. A browser reports a lost connection as an unknown error.
const FINAL = new Set([Code.InvalidArgument, Code.Unauthenticated, Code.PermissionDenied, Code.Unimplemented]);

/** Decodes packed `sint64`, exactly up to 2^52, without a BigInt for each. */
function decodeSteps(bytes: Uint8Array): Float64Array {
  const steps = new Float64Array(bytes.length);
  let count = 0;
  let zigzag = 0;
  let unit = 1;
  for (const byte of bytes) {
    zigzag += (byte & 0x7f) * unit;
    unit *= 0x80;
    if (byte < 0x80) {
      steps[count++] = zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2;
      zigzag = 0;
      unit = 1;
    }
  }
  return steps.subarray(0, count);
}

/** Decodes packed `double`, on a machine with little-endian numbers. A copy is aligned. */
function decodeValues(bytes: Uint8Array): Float64Array {
  return new Float64Array(bytes.slice().buffer);
}

/** The points of a run, in columns that grow. */
class Points {
  #steps = new Float64Array(256);
  #values = new Float64Array(256);
  #count = 0;

  get steps(): Float64Array {
    return this.#steps.subarray(0, this.#count);
  }

  get values(): Float64Array {
    return this.#values.subarray(0, this.#count);
  }

  /** Adds the points after the last one; others have been read already. */
  add(piece: SeriesPoints): void {
    const decoded = decodeSteps(piece.steps);
    const last = this.steps.at(-1) ?? -Infinity;
    const first = decoded.findLastIndex((step) => step <= last) + 1;
    const steps = decoded.subarray(first);
    const values = decodeValues(piece.values).subarray(first);
    const count = this.#count + steps.length;
    if (count > this.#steps.length) {
      const [oldSteps, oldValues] = [this.steps, this.values];
      this.#steps = new Float64Array(2 * count);
      this.#values = new Float64Array(2 * count);
      this.#steps.set(oldSteps);
      this.#values.set(oldValues);
    }
    this.#steps.set(steps, this.#count);
    this.#values.set(values, this.#count);
    this.#count = count;
  }
}

export class Chart {
  points: Points[];
  readonly #selections: { runId: string; keys: { name: string; context: string }[] }[];
  #drawing = false;

  constructor(
    readonly canvas: HTMLCanvasElement,
    readonly runIds: string[],
    metric: { name: string; context: string },
    readonly report: (text: string) => void,
  ) {
    this.points = runIds.map(() => new Points());
    this.#selections = runIds.map((runId) => ({ runId, keys: [metric] }));
  }

  /** Follows the runs until the signal, also over restarts of the server. */
  async follow(transport: Transport, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#receive(transport, signal);
      } catch (error) {
        if (signal.aborted || !(error instanceof ConnectError) || FINAL.has(error.code)) throw error;
        this.report(`${error.message}; connecting again`);
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }

  /**
   * Receives points until the server stops.
   *
   * Changes that were made without a connection are not reported, so all points are received again.
   */
  async #receive(transport: Transport, signal: AbortSignal): Promise<void> {
    const received = this.runIds.map(() => new Points());
    const lost = new AbortController();
    const abort = () => lost.abort();
    let silence = setTimeout(abort, SILENCE_MS);
    try {
      const signals = AbortSignal.any([signal, lost.signal]);
      const request = { runs: this.#selections, density: MAX_POINTS };
      const response = await transport.stream(FOLLOW, signals, undefined, undefined, once(request));
      for await (const { series, stale, caughtUp } of response.message) {
        clearTimeout(silence);
        silence = setTimeout(abort, SILENCE_MS);
        for (const piece of series) received[piece.place!.run].add(piece);
        for (const { run } of stale) received[run] = await this.#read(transport, run, signals);
        // Until then, the chart shows the points that it had before.
        if (caughtUp) this.points = received;
        // An empty message only keeps the connection alive.
        if (this.points === received && (caughtUp || series.length + stale.length > 0)) this.#drawSoon();
      }
    } finally {
      clearTimeout(silence);
      lost.abort();
    }
  }

  async #read(transport: Transport, run: number, signal: AbortSignal): Promise<Points> {
    const points = new Points();
    const request = { runs: [this.#selections[run]], density: MAX_POINTS };
    const response = await transport.stream(SAMPLE, signal, undefined, undefined, once(request));
    for await (const { series } of response.message) {
      for (const piece of series) points.add(piece);
    }
    return points;
  }

  /** Draws once per frame, however many messages have come. */
  #drawSoon(): void {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#draw();
    });
  }

  #draw(): void {
    const [left, right] = extent(this.points.map(({ steps }) => steps));
    const [bottom, top] = extent(this.points.map(({ values }) => values));
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d")!;
    context.clearRect(0, 0, width, height);
    this.points.forEach(({ steps, values }, index) => {
      context.strokeStyle = `hsl(${(360 * index) / this.points.length} 70% 45%)`;
      context.beginPath();
      let connected = false;
      for (let at = 0; at < steps.length; at++) {
        // The line has a gap where a value is not finite.
        if (Number.isFinite(values[at])) {
          const x = ((steps[at] - left) / (right - left || 1)) * width;
          const y = height - ((values[at] - bottom) / (top - bottom || 1)) * height;
          if (connected) context.lineTo(x, y);
          else context.moveTo(x, y);
        }
        connected = Number.isFinite(values[at]);
      }
      context.stroke();
    });
    const count = this.points.reduce((sum, { steps }) => sum + steps.length, 0);
    this.report(`${this.runIds.length} runs, ${count} points`);
  }
}

async function* once<T>(message: T): AsyncIterable<T> {
  yield message;
}

/** Returns the lowest and the highest of the finite numbers. */
function extent(columns: Float64Array[]): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (const column of columns) {
    for (const value of column) {
      if (!Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return [low, high];
}
