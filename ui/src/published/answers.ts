/** Answers to the calls of a page, from the files of a published copy. */
import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';

import type { StepRange } from '../gen/matyan/common/v1/common_pb.ts';
import {
  LinesResponseSchema,
  RecordsResponseSchema,
  type LinesRequest,
} from '../gen/matyan/logs/v1/logs_pb.ts';
import {
  SequenceSchema,
  StepSchema,
  type Selection,
  type Sequence,
  type Step,
} from '../gen/matyan/objects/v1/objects_pb.ts';
import {
  PageListSchema,
  PublishedRunSchema,
  type PageList,
  type PublishedRun,
  type PublishedSequence,
} from '../gen/matyan/published/v1/published_pb.ts';
import type { ObjectsRequest } from '../gen/matyan/search/v1/search_pb.ts';
import {
  SeriesBucketsSchema,
  SeriesPointsSchema,
  type BucketsRequest,
  type RunSelection,
  type SeriesBuckets,
  type SeriesPoints,
} from '../gen/matyan/series/v1/series_pb.ts';
import { fineBuckets, seriesPath } from './buckets.ts';
import { pagesOver, type CopyFiles } from './files.ts';

/** Pages of points of one message. */
const PAGES_AT_A_TIME = 32;
/** Metrics that are read at the same time. */
const METRICS_AT_A_TIME = 8;
const DEFAULT_TAIL = 200;

const EVERYTHING = { from: -Infinity, to: Infinity };

export class CopyAnswers {
  #reading: Promise<PublishedRun> | undefined;

  constructor(
    readonly files: CopyFiles,
    /** The files that the runs of a copy have in common, such as artifacts. */
    readonly shared = files,
  ) {}

  /** The file that is read first. It is read again only after a failure. */
  run(): Promise<PublishedRun> {
    this.#reading ??= this.files
      .read('run.bin')
      .then(bytes => fromBinary(PublishedRunSchema, bytes))
      .catch(error => {
        this.#reading = undefined;
        throw error;
      });
    return this.#reading;
  }

  async *buckets(request: BucketsRequest, signal?: AbortSignal): AsyncGenerator<SeriesBuckets> {
    const copy = await this.run();
    const chosen = selected(request.runs).flatMap(({ number, ...one }) => {
      const at = copy.series.findIndex(series => series.number === number);
      const found = copy.series[at];
      const info = copy.run?.series[at];
      return found && info ? [{ ...one, found, info }] : [];
    });
    const read = readAhead(chosen, METRICS_AT_A_TIME, async ({ steps, found, ...one }) => {
      const range = ends(steps ?? request.steps);
      return { ...one, ...(await fineBuckets(this.files, found, range, request.pixels, signal)) };
    });
    for await (const { run, series, info, buckets, width } of read)
      yield create(SeriesBucketsSchema, {
        place: { run, series },
        info,
        width: BigInt(width),
        min: buckets.map(({ min }) => min),
        max: buckets.map(({ max }) => max),
        last: buckets.map(({ last }) => last),
        lastStep: buckets.map(({ lastStep }) => BigInt(lastStep)),
        lastTimeUs: buckets.map(({ lastTime }) => BigInt(lastTime)),
        nan: buckets.map(({ nan }) => nan),
        positiveInfinity: buckets.map(({ positiveInfinity }) => positiveInfinity),
        negativeInfinity: buckets.map(({ negativeInfinity }) => negativeInfinity),
      });
  }

  /** The epochs of some points of each metric, whatever the density. */
  async *epochs(runs: readonly RunSelection[], signal?: AbortSignal): AsyncGenerator<SeriesPoints> {
    const copy = await this.run();
    const chosen = selected(runs).flatMap(({ run, series, number }) => {
      const list = copy.series.find(one => one.number === number)?.epochs;
      return list ? [{ list, number, place: placeOf(run, series) }] : [];
    });
    yield* readAhead(chosen, METRICS_AT_A_TIME, async ({ list, number, place }) => {
      const [page] = await this.files.pages(seriesPath(number), list, [0], signal);
      return { ...fromBinary(SeriesPointsSchema, page as Uint8Array), place };
    });
  }

  /** Every point of the metrics. */
  async *points(selection: RunSelection, signal?: AbortSignal): AsyncGenerator<SeriesPoints> {
    const copy = await this.run();
    for (const { run, series, number } of selected([selection])) {
      const list = copy.series.find(one => one.number === number)?.levels[0]?.pages;
      if (!list) continue;
      const indexes = [...list.lengths.keys()];
      for (let at = 0; at < indexes.length; at += PAGES_AT_A_TIME) {
        const some = indexes.slice(at, at + PAGES_AT_A_TIME);
        for (const page of await this.files.pages(seriesPath(number), list, some, signal))
          yield { ...fromBinary(SeriesPointsSchema, page), place: placeOf(run, series) };
      }
    }
  }

  async lines(request: LogPart, signal?: AbortSignal) {
    const { lines: list = create(PageListSchema) } = await this.run();
    const { pages, isWanted } = await this.#log('lines.bin', list, request, signal);
    const lines = pages.flatMap(page => fromBinary(LinesResponseSchema, page).lines);
    const { lastStep } = list;
    return { lines: lines.filter(isWanted), ...(lastStep !== undefined && { lastStep }) };
  }

  async records(request: LogPart, signal?: AbortSignal) {
    const { records: list = create(PageListSchema), recordCount } = await this.run();
    const { pages, isWanted } = await this.#log('records.bin', list, request, signal);
    const records = pages.flatMap(page => fromBinary(RecordsResponseSchema, page).records);
    return { records: records.filter(isWanted), count: recordCount };
  }

  async #log(path: string, list: PageList, { steps, tail }: LogPart, signal?: AbortSignal) {
    const isTail = steps?.start === undefined && steps?.stop === undefined;
    const last = Number(list.lastStep ?? -1n);
    const { from, to } = isTail
      ? { from: last - (tail || DEFAULT_TAIL) + 1, to: last }
      : ends(steps);
    const pages = await this.files.pages(path, list, pagesOver(list, from, to), signal);
    return { pages, isWanted: ({ step }: { step: bigint }) => step >= from && step <= to };
  }

  /** The sequences of a type, thinned as a server would thin them. */
  async sequences({ type, selection }: ObjectsRequest, signal?: AbortSignal): Promise<Sequence[]> {
    const { sequences } = await this.run();
    const found = [...sequences.entries()].filter(([, one]) => one.type === type);
    const reads = found.map(async ([index, sequence]) => {
      const steps = await this.#steps(index, sequence, selection, signal);
      return create(SequenceSchema, { name: sequence.name, context: sequence.context, steps });
    });
    return (await Promise.all(reads)).filter(({ steps }) => steps.length > 0);
  }

  async #steps(
    index: number,
    { steps: list }: PublishedSequence,
    selection: Selection | undefined,
    signal?: AbortSignal,
  ): Promise<Step[]> {
    if (!list) return [];
    const { from, to } = ends(selection?.recordRange);
    const within = [...list.firstSteps.keys()].filter(at => {
      const step = list.firstSteps[at] as bigint;
      return step >= from && step <= to;
    });
    const chosen = thinned(within, selection?.recordDensity ?? 0);
    const pages = await this.files.pages(`objects/${index}.bin`, list, chosen, signal);
    return pages.map(page => {
      const step = fromBinary(StepSchema, page);
      step.objects = thinned(step.objects, selection?.indexDensity ?? 0);
      return step;
    });
  }

  /** The first bytes of an artifact. */
  async artifact(path: string, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    const { artifacts } = await this.run();
    const artifact = artifacts.find(one => one.path === path);
    if (!artifact) throw new ConnectError(`the copy has no file ${path}`, Code.NotFound);
    const end = Math.min(length, Number(artifact.size ?? 0n));
    if (end === 0) return new Uint8Array();
    return this.shared.start(artifact.uri, end, signal);
  }
}

type LogPart = Pick<LinesRequest, 'steps' | 'tail'>;

interface SelectedSeries {
  /** Indexes of the run and of the series in the request. */
  run: number;
  series: number;
  number: number;
  steps: StepRange | undefined;
}

function selected(runs: readonly RunSelection[]): SelectedSeries[] {
  return runs.flatMap(({ numbers, steps }, run) =>
    numbers.map((number, series) => ({ run, series, number, steps: steps[series] })),
  );
}

function placeOf(run: number, series: number): SeriesPoints['place'] {
  return create(SeriesPointsSchema, { place: { run, series } }).place;
}

/** The first and the last step of a range. */
function ends(range: MessageInitShape<never> | StepRange | undefined): typeof EVERYTHING {
  const { start, stop } = (range ?? {}) as Partial<StepRange>;
  return {
    from: start === undefined ? EVERYTHING.from : Number(start),
    to: stop === undefined ? EVERYTHING.to : Number(stop) - 1,
  };
}

/** Reads something for each item, at most `limit` at a time. The results come in the order of the items. */
export async function* readAhead<T, R>(
  items: readonly T[],
  limit: number,
  read: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const reads: Promise<R>[] = [];
  for (const item of items) {
    const reading = read(item);
    // If an earlier item fails, nothing waits for this one.
    reading.catch(() => undefined);
    reads.push(reading);
    if (reads.length === limit) yield (await reads.shift()) as R;
  }
  for (const reading of reads) yield await reading;
}

/** At most `limit` of some values, spread evenly; 0: all. */
export function thinned<T>(all: readonly T[], limit: number): T[] {
  if (limit === 0 || all.length <= limit) return [...all];
  const at = (index: number): number =>
    limit === 1 ? 0 : roundHalfEven((index * (all.length - 1)) / (limit - 1));
  return Array.from({ length: limit }, (_, index) => all[at(index)] as T);
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}
