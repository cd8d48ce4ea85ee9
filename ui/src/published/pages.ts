/** Answers to the calls of the pages of a published report, dashboard or view, which show several runs. */
import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';

import { decodeMap, isMap, type CborValue } from '../api/cbor.ts';
import { addRunPage } from '../api/published.ts';
import { plainContext } from '../format/context.ts';
import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import type { FindColumnsRequest } from '../gen/matyan/project/v1/project_pb.ts';
import {
  PublishedPagesSchema,
  type PublishedPages,
  type PublishedRun,
} from '../gen/matyan/published/v1/published_pb.ts';
import { RunSchema, type Run, type RunParts } from '../gen/matyan/runs/v1/run_pb.ts';
import type {
  GroupsRequest,
  ObjectsRequest,
  ObjectsResponseSchema,
  RunsRequest,
} from '../gen/matyan/search/v1/search_pb.ts';
import { CopyAnswers, readAhead } from './answers.ts';
import type { CopyFiles } from './files.ts';
import { ownParams } from './params.ts';
import { grouped, sorted, type CopiedRow } from './table.ts';

/** Runs whose files are read at the same time. */
const RUNS_AT_A_TIME = 12;
const DEFAULT_GROUPS = 100;
const DEFAULT_COLUMNS = 100;

/** A run of the copy as it was read. */
interface Copied extends CopiedRow {
  published: PublishedRun;
  /** The encoded params without the params of the system. */
  ownParams: Uint8Array<ArrayBuffer>;
}

export class CopiedPages {
  #reading: Promise<PublishedPages> | undefined;
  readonly #answers = new Map<string, CopyAnswers>();
  readonly #copied = new Map<string, Promise<Copied>>();
  /** Ids of the runs of groups, by their tokens. */
  readonly #groups = new Map<string, ReadonlySet<string>>();

  constructor(
    readonly files: CopyFiles,
    /** The files of a run, by the name of its folder. */
    readonly filesOf: (folder: string) => CopyFiles,
    /** When the copy was made, which is the end of active runs. */
    readonly atUs: bigint,
  ) {}

  /** The file that is read first. It is read again only after a failure. */
  pages(): Promise<PublishedPages> {
    this.#reading ??= this.#read().catch(error => {
      this.#reading = undefined;
      throw error;
    });
    return this.#reading;
  }

  async #read(): Promise<PublishedPages> {
    const pages = fromBinary(PublishedPagesSchema, await this.files.read('pages.bin'));
    for (const { runId, folder, hasPoints } of pages.runs) if (hasPoints) addRunPage(runId, folder);
    return pages;
  }

  /** The answers to the calls about a run. */
  async run(runId: string): Promise<CopyAnswers> {
    const known = this.#answers.get(runId);
    if (known) return known;
    const part = (await this.pages()).runs.find(one => one.runId === runId);
    if (!part) throw new ConnectError(`the copy has no run ${runId}`, Code.NotFound);
    const answers = new CopyAnswers(this.filesOf(part.folder), this.files);
    this.#answers.set(runId, answers);
    return answers;
  }

  #copy(runId: string): Promise<Copied> {
    const known = this.#copied.get(runId);
    if (known) return known;
    const reading = this.#readCopy(runId);
    this.#copied.set(runId, reading);
    reading.catch(() => this.#copied.delete(runId));
    return reading;
  }

  async #readCopy(runId: string): Promise<Copied> {
    const published = await (await this.run(runId)).run();
    const run = published.run ?? create(RunSchema, { runId });
    const own = ownParams(run.params);
    return { published, ownParams: own, run, params: decodeMap(own) };
  }

  async #copies(runIds: readonly string[]): Promise<Copied[]> {
    const copies: Copied[] = [];
    for await (const one of readAhead(runIds, RUNS_AT_A_TIME, id => this.#copy(id)))
      copies.push(one);
    return copies;
  }

  /** The ids of the runs that a query finds, the newest first. */
  async #found(query: string): Promise<string[]> {
    const { searches, runs } = await this.pages();
    const named = namedRuns(query);
    const known = new Set(runs.map(({ runId }) => runId));
    if (named) return named.filter(id => known.has(id));
    const search = searches.find(one => sameText(one.query) === sameText(query));
    if (!search)
      throw new ConnectError(
        'a published copy cannot search: ask who has published it for the address of the server',
        Code.Unimplemented,
      );
    return search.runs.flatMap(at => runs[at]?.runId ?? []);
  }

  async #rows({ query, sort = [], group = '' }: Partial<RunsRequest>): Promise<readonly Copied[]> {
    const found = await this.#found(query?.text ?? '');
    const members = this.#groups.get(group) ?? new Set<string>();
    const ids = group === '' ? found : found.filter(id => members.has(id));
    return sorted(await this.#copies(ids), sort, this.atUs);
  }

  /** A page of the runs of a search. */
  async search(request: RunsRequest) {
    const all = await this.#rows(request);
    const first = Number(request.cursor || request.position);
    const end = request.limit === 0 ? all.length : first + request.limit;
    const page = all.slice(first, end);
    return {
      runs: request.idsOnly ? [] : page.map(one => partOf(one, request.parts)),
      runIds: request.idsOnly ? page.map(({ run }) => run.runId) : [],
      firstPlace: BigInt(first + 1),
      matchCount: BigInt(all.length),
      nextCursor: end < all.length ? String(end) : '',
      done: true,
    };
  }

  async batch(runIds: readonly string[], parts: RunParts | undefined) {
    const known = new Set((await this.pages()).runs.map(({ runId }) => runId));
    const copies = await this.#copies(runIds.filter(id => known.has(id)));
    return { runs: copies.map(one => partOf(one, parts)), done: true };
  }

  async groups(request: GroupsRequest) {
    const rows = await this.#rows({ query: request.query! });
    const all = grouped(rows, request, this.atUs);
    for (const { group, rows: members } of all)
      this.#groups.set(group.token, new Set(members.map(({ run }) => run.runId)));
    const first = Number(request.cursor);
    const end = first + (request.limit || DEFAULT_GROUPS);
    return {
      groups: all.slice(first, end).map(({ group }) => group),
      nextCursor: end < all.length ? String(end) : '',
      groupCount: BigInt(all.length),
      runCount: BigInt(rows.length),
    };
  }

  /** The params and series of all runs of the copy. */
  async columns({ text, types, excludeParams, limit }: FindColumnsRequest) {
    const { runs } = await this.pages();
    const copies = await this.#copies(runs.map(({ runId }) => runId));
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const has = (own: string): boolean => words.every(word => own.toLowerCase().includes(word));
    const all = copies.flatMap(({ run, published }) => [
      ...run.series.map(({ name, context }) => ({ type: SeriesType.METRIC, name, context })),
      ...published.sequences.map(({ type, name, context }) => ({ type, name, context })),
    ]);
    const series = distinct(
      all.filter(one => types.includes(one.type)),
      ({ type, name, context }) => JSON.stringify([type, name, context]),
    ).filter(({ name, context }) => has(`${name} ${context}`));
    const paths = excludeParams ? [] : copies.flatMap(({ params }) => leavesOf(params));
    const params = distinct(paths, path => JSON.stringify(path)).filter(path =>
      has(path.join('.')),
    );
    const most = limit || DEFAULT_COLUMNS;
    return {
      params: params.slice(0, most).map(segments => ({ segments })),
      series: series.slice(0, most),
      paramCount: BigInt(params.length),
      seriesCount: BigInt(series.length),
    };
  }

  /** Sequences of objects of the newest runs that have any, a message for each run. */
  async *objects(
    request: ObjectsRequest,
    signal?: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof ObjectsResponseSchema>> {
    const copies = await this.#rows({ query: request.query! });
    const having = copies.filter(({ published }) =>
      published.sequences.some(({ type }) => type === request.type),
    );
    const some = request.limit === 0 ? having : having.slice(0, request.limit);
    const read = readAhead(some, RUNS_AT_A_TIME, async copy => ({
      run: partOf(copy, request.parts),
      sequences: await (await this.run(copy.run.runId)).sequences(request, signal),
    }));
    for await (const one of read) yield { runs: [one] };
    yield { done: true, nextCursor: some.length < having.length ? 'more' : '' };
  }
}

/** Texts of queries are compared without regard to lines and spaces. */
function sameText(query: string): string {
  return query.replace(/\s+/g, ' ').trim();
}

/** The runs that a query names by their hashes, and nothing else; undefined for any other query. */
export function namedRuns(query: string): string[] | undefined {
  const [, list, one] = /^\s*run\.hash (?:in (\[.*\])|== (".*"))\s*$/s.exec(query) ?? [];
  try {
    const named: unknown = JSON.parse(list ?? `[${one ?? 'false'}]`);
    const isText = (id: unknown): id is string => typeof id === 'string';
    return Array.isArray(named) && named.every(isText) ? named : undefined;
  } catch {
    // Such as one of two hashes.
    return undefined;
  }
}

/** The parts of a run that a request asks for. */
function partOf({ run, ownParams: own }: Copied, parts: RunParts | undefined): Run {
  const wantsParams = parts?.params || (parts?.paramPaths.length ?? 0) > 0;
  const params = parts?.systemParams ? run.params : own;
  const keys = parts?.seriesKeys ?? [];
  const names = new Set(parts?.seriesNames);
  const isWanted = ({ name, context }: { name: string; context: string }): boolean =>
    (names.size === 0 && keys.length === 0) ||
    names.has(name) ||
    keys.some(key => key.name === name && plainContext(key.context) === plainContext(context));
  const hasMetrics = parts?.seriesTypes.includes(SeriesType.METRIC) ?? false;
  const series = hasMetrics ? run.series.filter(isWanted) : [];
  const { seriesLimit = 0, seriesOffset = 0 } = parts ?? {};
  return create(RunSchema, {
    runId: run.runId,
    ...(parts?.props && run.props && { props: run.props }),
    ...(wantsParams && { params }),
    series: seriesLimit === 0 ? series : series.slice(seriesOffset, seriesOffset + seriesLimit),
    seriesCount: series.length,
  });
}

/** The first of the members with the same key. */
function distinct<T>(all: readonly T[], keyOf: (one: T) => string): T[] {
  const known = new Map<string, T>();
  for (const one of all) {
    const key = keyOf(one);
    if (!known.has(key)) known.set(key, one);
  }
  return [...known.values()];
}

/** Paths of the params that have a value, without the paths of the maps around them. */
function leavesOf(params: CborValue, path: string[] = []): string[][] {
  if (!isMap(params)) return [path];
  return Object.entries(params).flatMap(([name, value]) => leavesOf(value, [...path, name]));
}
