/**
 * Contents of the project: the names that columns and queries can use, and the lists of its
 * entities.
 */
import type { CallOptions } from '@connectrpc/connect';

import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import { DashboardService } from '../gen/matyan/dashboards/v1/dashboards_pb.ts';
import { ExperimentService } from '../gen/matyan/experiments/v1/experiments_pb.ts';
import { ProjectService, type ActivityResponse } from '../gen/matyan/project/v1/project_pb.ts';
import { ReportService } from '../gen/matyan/reports/v1/reports_pb.ts';
import type { Run } from '../gen/matyan/runs/v1/run_pb.ts';
import { RunService } from '../gen/matyan/runs/v1/runs_pb.ts';
import { TagService } from '../gen/matyan/tags/v1/tags_pb.ts';
import { SYSTEM_PREFIX } from '../format/context.ts';
import { TOTAL_STEPS } from '../format/silence.ts';
import { importance } from '../format/goals.svelte.ts';
import { isOfMachine } from '../format/importance.ts';
import { Urgency } from './read_queue.ts';
import { readRuns, sampleRuns } from './runs.ts';
import { client, gathered, limited, queued, unary } from './transport.ts';

/** Maximum number of params, and of metrics, in a list to choose from. */
export const MAX_COLUMNS = 60;

/** Finds params, and series of some types, that have all words of a text in their path or name. */
export function findColumns(
  text: string,
  types: SeriesType[],
  limit: number,
  signal?: AbortSignal,
) {
  return unary(ProjectService.method.findColumns, { text, types, limit }, signal);
}

export interface Entity {
  id: string;
  name: string;
  description: string;
  color?: string;
  runCount?: number;
  archived?: boolean;
  createdUs?: bigint;
  updatedUs?: bigint;
}

export type EntityKind = 'experiments' | 'tags' | 'dashboards' | 'reports';

const LISTS: Record<EntityKind, (options: CallOptions) => Promise<Entity[]>> = {
  experiments: options =>
    gathered(client(ExperimentService).list({}, options), page => page.experiments),
  tags: options => gathered(client(TagService).list({}, options), page => page.tags),
  dashboards: options =>
    gathered(client(DashboardService).list({}, options), page => page.dashboards),
  reports: options => gathered(client(ReportService).list({}, options), page => page.reports),
};

export function readEntities(kind: EntityKind, signal?: AbortSignal): Promise<Entity[]> {
  return queued(`The list of ${kind}`, Urgency.Visible, signal, () => LISTS[kind](limited(signal)));
}

/** Changes an experiment or a tag. Fails if another reader has changed it since it was read. */
export async function updateEntity(kind: EntityKind, entity: Entity): Promise<void> {
  const { id, name, description, color, archived, updatedUs } = entity;
  const change = { id, name, description, archived, ifUpdatedUs: updatedUs };
  if (kind === 'tags') await unary(TagService.method.update, { ...change, color });
  else await unary(ExperimentService.method.update, change);
}

/** Deletes an experiment or a tag; its runs stay. */
export async function deleteEntity(kind: EntityKind, { id }: Entity): Promise<void> {
  if (kind === 'tags') await unary(TagService.method.delete, { id });
  else await unary(ExperimentService.method.delete, { id });
}

export interface ProjectActivity {
  counts: ActivityResponse;
  active: Run[];
  recent: Run[];
  /** Whether a run has a point or an object, other than readings of its machine. */
  hasPoints: boolean;
}

const SHOWN_METRICS = 6;
const LOSS = 'loss';
const MAX_ACTIVE = 20;
const MAX_RECENT = 8;

/**
 * Counts, active runs and the newest runs, with the last values of the project's most important
 * metrics.
 */
export async function readActivity(signal?: AbortSignal): Promise<ProjectActivity> {
  const activity = await queued('ProjectService.Activity', Urgency.Visible, signal, async () => {
    const options = limited(signal);
    const project = client(ProjectService);
    const counts = await project.activity(
      { timezoneOffsetMin: new Date().getTimezoneOffset() },
      options,
    );
    const hasRuns = counts.runCount + counts.archivedRunCount > 0;
    const seriesNames = hasRuns ? await firstMetrics(options) : [];
    const seriesTypes = seriesNames.length > 0 ? [SeriesType.METRIC] : [];
    const paramPaths = [{ segments: TOTAL_STEPS }];
    const parts = { props: true, paramPaths, seriesTypes, seriesNames };
    const list = async (filter: { active?: boolean }, pageSize: number): Promise<Run[]> =>
      (await client(RunService).list({ ...filter, archived: false, parts, pageSize }, options))
        .runs;
    return {
      counts,
      active: await list({ active: true }, MAX_ACTIVE),
      recent: await list({}, MAX_RECENT),
      hasPoints: seriesNames.length > 0 || (hasRuns && (await hasObjects(options))),
    };
  });
  // Runs without these metrics show others.
  const others = [...activity.active, ...activity.recent].filter(
    ({ series }) => series.length === 0,
  );
  const parts = { seriesTypes: [SeriesType.METRIC], seriesLimit: MAX_COLUMNS };
  const ids = new Set(others.map(({ runId }) => runId));
  const found = await readRuns([...ids], parts, Urgency.Visible, signal);
  for (const run of others) run.series = found.get(run.runId)?.series ?? [];
  // The names of a project follow its first points.
  return { ...activity, hasPoints: activity.hasPoints || others.some(hasOwnSeries) };
}

function hasOwnSeries({ series }: Run): boolean {
  return series.some(({ name }) => !name.startsWith(SYSTEM_PREFIX));
}

/** The first of the runs with a point or an object, other than readings of its machine. */
export async function firstWithPoints(
  runIds: string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const parts = { seriesTypes: [SeriesType.METRIC, ...OBJECTS], seriesLimit: MAX_COLUMNS };
  const found = await readRuns(runIds, parts, Urgency.Visible, signal);
  return [...found.values()].find(hasOwnSeries)?.runId;
}

const OBJECTS = [
  SeriesType.IMAGES,
  SeriesType.AUDIOS,
  SeriesType.TEXTS,
  SeriesType.DISTRIBUTIONS,
  SeriesType.FIGURES,
  SeriesType.HTMLS,
  SeriesType.POINT_CLOUDS,
];

/** Whether the project has media, such as images. Only projects without metrics need to ask. */
async function hasObjects(options: CallOptions): Promise<boolean> {
  const request = { types: OBJECTS, excludeParams: true, limit: 1 };
  return (await client(ProjectService).findColumns(request, options)).seriesCount > 0n;
}

/** They are read once: the names of a project may be many. */
let knownMetrics: readonly string[] = [];

async function firstMetrics(options: CallOptions): Promise<string[]> {
  // Goals may have changed.
  const rank = (name: string): number => importance(name);
  const all = await metricNames(options);
  return all.toSorted((a, b) => rank(b) - rank(a)).slice(0, SHOWN_METRICS);
}

/** The metric of a new panel. */
export async function usualMetric(): Promise<string> {
  return usualName(await sampleRuns('')) ?? LOSS;
}

/** The most important of the metrics that many of the runs have. */
export function usualName(runs: readonly Pick<Run, 'series'>[]): string | undefined {
  const known = new Map<string, { runs: Set<object>; contexts: Set<string> }>();
  for (const run of runs) {
    for (const { name, context } of run.series) {
      if (name.startsWith(SYSTEM_PREFIX)) continue;
      const own = known.get(name) ?? { runs: new Set(), contexts: new Set() };
      own.runs.add(run);
      own.contexts.add(context);
      known.set(name, own);
    }
  }
  const all = [...known].map(([name, { runs, contexts }]) => ({
    name,
    count: runs.size,
    contexts,
  }));
  const ofTraining = all.filter(({ name }) => !isOfMachine(name));
  const wanted = ofTraining.length > 0 ? ofTraining : all;
  const most = Math.max(...wanted.map(({ count }) => count));
  const common = wanted.filter(({ count }) => 2 * count >= most);
  const ranked = common.map(({ name, count, contexts }) => {
    const ranks = [...contexts].map(context => importance(name, context));
    return { name, count, rank: Math.max(...ranks) };
  });
  return ranked.sort((a, b) => b.rank - a.rank || b.count - a.count)[0]?.name;
}

async function metricNames(options: CallOptions): Promise<readonly string[]> {
  if (knownMetrics.length === 0) {
    const request = { types: [SeriesType.METRIC], excludeParams: true, limit: 1_000 };
    const { series } = await client(ProjectService).findColumns(request, options);
    const names = series.map(({ name }) => name).filter(name => !name.startsWith(SYSTEM_PREFIX));
    knownMetrics = [...new Set(names)];
  }
  return knownMetrics;
}
