import { create, toBinary } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { encodeCbor } from '../api/cbor_writer.ts';
import { decodeMap } from '../api/cbor.ts';
import { hasRunPage } from '../api/published.ts';
import { OutcomeKind, SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import { FindColumnsRequestSchema } from '../gen/matyan/project/v1/project_pb.ts';
import {
  PublishedPagesSchema,
  PublishedRunSchema,
} from '../gen/matyan/published/v1/published_pb.ts';
import { RunPartsSchema } from '../gen/matyan/runs/v1/run_pb.ts';
import {
  GroupOrder,
  GroupsRequestSchema,
  MetricValue,
  RunsRequestSchema,
  SortField,
} from '../gen/matyan/search/v1/search_pb.ts';
import { CopyFiles } from './files.ts';
import { CopiedPages, namedRuns } from './pages.ts';
import { ownParams } from './params.ts';

const QUERY = 'run.hparams.lr > 0';
/** Learning rates and losses of the runs, the newest first. */
const RUNS = [
  { lr: 0.1, loss: 9, name: 'Zoe' },
  { lr: 'auto', loss: 1, name: 'abe' },
  { lr: 0.01, loss: NaN, name: 'Ben' },
  { lr: 0.1, loss: 3, name: 'cy' },
];
const idOf = (at: number): string => `run-${at}`;

/** A copy of these runs on a web server, and the files that were read. */
function copy(): { pages: CopiedPages; read: string[] } {
  const read: string[] = [];
  const contents = new Map<string, Uint8Array>();
  contents.set(
    'pages.bin',
    toBinary(
      PublishedPagesSchema,
      create(PublishedPagesSchema, {
        searches: [
          { query: `  ${QUERY.replace(' ', '\n ')}`, runs: RUNS.map((_, at) => at) },
          { query: '', runs: [1] },
        ],
        runs: RUNS.map((_, at) => ({ runId: idOf(at), folder: `f${at}`, hasPoints: at > 0 })),
      }),
    ),
  );
  for (const [at, { lr, loss, name }] of RUNS.entries()) {
    const own = create(PublishedRunSchema, {
      run: {
        runId: idOf(at),
        props: {
          name,
          createdUs: BigInt(100 - at),
          active: at === 0,
          ...(at > 0 && { durationUs: BigInt(at) }),
          outcome: { kind: at === 2 ? OutcomeKind.FAILED : OutcomeKind.FINISHED },
        },
        params: encodeCbor({ __system_params: { host: 'a' }, hparams: { lr } }),
        series: [
          { number: 1, name: 'loss', context: '{}', type: SeriesType.METRIC, last: loss },
          { number: 2, name: 'lr', context: '{}', type: SeriesType.METRIC, last: 1 },
        ],
      },
      sequences: at === 3 ? [{ type: SeriesType.IMAGES, name: 'samples', context: '{}' }] : [],
    });
    contents.set(`f${at}/run.bin`, toBinary(PublishedRunSchema, own));
  }
  const files = (folder: string): CopyFiles =>
    new CopyFiles(
      async url => {
        read.push(String(url));
        const content = contents.get(String(url));
        return content ? new Response(content.slice()) : new Response('', { status: 404 });
      },
      path => `${folder}${path}`,
    );
  return { pages: new CopiedPages(files(''), folder => files(`${folder}/`), 200n), read };
}

const parts = create(RunPartsSchema, {
  props: true,
  params: true,
  seriesTypes: [SeriesType.METRIC],
  seriesNames: ['loss'],
});
type Request = Omit<
  NonNullable<Parameters<typeof create<typeof RunsRequestSchema>>[1]>,
  '$typeName'
>;
const search = async (request: Request, text = QUERY): Promise<string[]> => {
  const wanted = create(RunsRequestSchema, { query: { text }, parts, ...request });
  const { runs, runIds } = await copy().pages.search(wanted);
  return [...runs.map(({ runId }) => runId), ...runIds].map(id => id.replace('run-', ''));
};
const byField = (value: SortField) => ({ by: { case: 'field' as const, value } });
const byLr = { by: { case: 'param' as const, value: { segments: ['hparams', 'lr'] } } };
const byLoss = { by: { case: 'metric' as const, value: { name: 'loss', context: '' } } };

test('the runs of a search come in the order of the server', async () => {
  expect(await search({})).toEqual(['0', '1', '2', '3']);
  expect(await search({}, '')).toEqual(['1']);
  expect(await search({ limit: 2, position: 1n, idsOnly: true })).toEqual(['1', '2']);
  // Texts after numbers, and ties by the id; what is missing is last in both directions.
  expect(await search({ sort: [byLr] })).toEqual(['2', '0', '3', '1']);
  expect(await search({ sort: [{ ...byLr, descending: true }] })).toEqual(['1', '0', '3', '2']);
  expect(await search({ sort: [byLoss] })).toEqual(['1', '3', '0', '2']);
  expect(await search({ sort: [{ ...byLoss, descending: true }] })).toEqual(['0', '3', '1', '2']);
  expect(await search({ sort: [byField(SortField.NAME)] })).toEqual(['2', '0', '1', '3']);
  // An active run lasts until the copy was made.
  const byDuration = { ...byField(SortField.DURATION), descending: true };
  expect(await search({ sort: [byDuration] })).toEqual(['0', '3', '2', '1']);
});

test('runs are named by a query, and other queries are refused', async () => {
  expect(await search({}, 'run.hash in ["run-3", "gone", "run-0"]')).toEqual(['3', '0']);
  expect(namedRuns('run.hash == "a"')).toEqual(['a']);
  expect(namedRuns('run.hash == "a" or run.hash == "b"')).toBeUndefined();
  expect(namedRuns('run.hash in [1]')).toBeUndefined();
  expect(namedRuns('')).toBeUndefined();
  await expect(search({}, 'run.active')).rejects.toThrow('cannot search');
});

test('a run has the parts that were asked for', async () => {
  const { pages, read } = copy();
  const { runs } = await pages.batch(['run-2', 'gone'], parts);
  expect(runs.map(({ runId }) => runId)).toEqual(['run-2']);
  expect(decodeMap(runs[0]!.params)).toEqual({ hparams: { lr: 0.01 } });
  expect(runs[0]?.series.map(({ name }) => name)).toEqual(['loss']);
  expect(read).toEqual(['pages.bin', 'f2/run.bin']);
  expect([hasRunPage('run-0'), hasRunPage('run-2')]).toEqual([false, true]);
  const only = await pages.batch(['run-2'], undefined);
  expect([only.runs[0]?.props, only.runs[0]?.series.length]).toEqual([undefined, 0]);
});

test('runs are grouped, and found by their groups', async () => {
  const { pages } = copy();
  const request = create(GroupsRequestSchema, {
    query: { text: QUERY },
    by: [byLr],
    aggregates: [{ of: byLoss.by, metricValue: MetricValue.LAST }],
  });
  const { groups, groupCount, runCount } = await pages.groups(request);
  expect([groupCount, runCount]).toEqual([3n, 4n]);
  expect(groups.map(({ values: [one] }) => one?.value.value)).toEqual([0.01, 0.1, 'auto']);
  expect(groups.map(({ aggregates: [one] }) => one?.mean)).toEqual([undefined, 6, 1]);
  const query = { text: QUERY };
  const members = create(RunsRequestSchema, { query, group: groups[1]!.token, parts });
  const found = await pages.search(members);
  expect(found.runs.map(({ runId }) => runId)).toEqual(['run-0', 'run-3']);
  // The group without a mean stays the last.
  const best = { ...request, order: GroupOrder.MEAN, descending: true };
  const ordered = (await pages.groups(best)).groups;
  expect(ordered.map(({ runCount }) => runCount)).toEqual([2n, 1n, 1n]);
  expect(ordered[2]?.aggregates[0]?.count).toBe(0n);
});

test('columns come from all runs', async () => {
  const { pages } = copy();
  const find = (text: string, types: SeriesType[]) =>
    pages.columns(create(FindColumnsRequestSchema, { text, types }));
  const all = await find('', [SeriesType.METRIC, SeriesType.IMAGES]);
  expect(all.params.map(({ segments }) => segments)).toEqual([['hparams', 'lr']]);
  expect(all.series.map(({ name }) => name)).toEqual(['loss', 'lr', 'samples']);
  const some = await find('LO', [SeriesType.METRIC]);
  expect([some.params.length, some.series.length]).toEqual([0, 1]);
});

test('params lose the members of the system, and nothing else', () => {
  const many = Object.fromEntries(Array.from({ length: 40 }, (_, at) => [`p${at}`, at / 3]));
  const own = { ...many, list: [1, 'text', { deep: [-5, 1e300] }], long: 'x'.repeat(300) };
  const whole = encodeCbor({ ...own, __system_params: { a: [{ b: 'c' }] }, __metrics__: {} });
  expect(decodeMap(ownParams(whole))).toEqual(own);
  expect(decodeMap(ownParams(encodeCbor({ __progress__: 1 })))).toEqual({});
  expect(decodeMap(ownParams(new Uint8Array()))).toEqual({});
});
