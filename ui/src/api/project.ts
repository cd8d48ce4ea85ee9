/** Contents of the project: the names that columns and queries can use, and the lists of its entities. */
import type { CallOptions } from '@connectrpc/connect';

import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import { DashboardService } from '../gen/matyan/dashboards/v1/dashboards_pb.ts';
import { ExperimentService } from '../gen/matyan/experiments/v1/experiments_pb.ts';
import {
  ProjectService,
  type ActivityResponse,
  type SequenceName,
} from '../gen/matyan/project/v1/project_pb.ts';
import { ReportService } from '../gen/matyan/reports/v1/reports_pb.ts';
import type { Run } from '../gen/matyan/runs/v1/run_pb.ts';
import { RunService } from '../gen/matyan/runs/v1/runs_pb.ts';
import { TagService } from '../gen/matyan/tags/v1/tags_pb.ts';
import { SYSTEM_PREFIX } from '../format/context.ts';
import { joined } from './bytes.ts';
import { decodeMap, type CborValue } from './cbor.ts';
import { Urgency } from './read_queue.ts';
import { client, limited, queued } from './transport.ts';

export interface ProjectColumns {
  params: { [key: string]: CborValue };
  metrics: SequenceName[];
}

/** Reads all params, and names and contexts of all metrics. */
export function readColumns(signal?: AbortSignal): Promise<ProjectColumns> {
  return queued('ProjectService.Params', Urgency.Visible, signal, async () => {
    const pieces: Uint8Array[] = [];
    const metrics = new Map<string, SequenceName>();
    const request = { types: [SeriesType.METRIC] };
    for await (const response of client(ProjectService).params(request, limited(signal))) {
      pieces.push(response.params);
      for (const one of response.types.flatMap(({ names }) => names)) {
        const known = metrics.get(one.name);
        // The last name of a piece may continue in the next one.
        if (known) known.contexts.push(...one.contexts);
        else metrics.set(one.name, one);
      }
    }
    return { params: decodeMap(joined(pieces)), metrics: [...metrics.values()] };
  });
}

/** An experiment, tag, dashboard or report, as lists show it. */
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

async function* entities(kind: EntityKind, signal?: AbortSignal): AsyncGenerator<Entity[]> {
  const options = limited(signal);
  switch (kind) {
    case 'experiments':
      for await (const page of client(ExperimentService).list({}, options)) yield page.experiments;
      return;
    case 'tags':
      for await (const page of client(TagService).list({}, options)) yield page.tags;
      return;
    case 'dashboards':
      for await (const page of client(DashboardService).list({}, options)) yield page.dashboards;
      return;
    case 'reports':
      for await (const page of client(ReportService).list({}, options)) yield page.reports;
  }
}

export function readEntities(kind: EntityKind, signal?: AbortSignal): Promise<Entity[]> {
  return queued(`${kind} list`, Urgency.Visible, signal, async () => {
    const all: Entity[] = [];
    for await (const page of entities(kind, signal)) all.push(...page);
    return all;
  });
}

export interface ProjectActivity {
  counts: ActivityResponse;
  active: Run[];
  recent: Run[];
}

/** Metrics whose last values a short list of runs shows. */
const SHOWN_METRICS = 6;
const MAX_ACTIVE = 20;
const MAX_RECENT = 8;

/** Counts, active runs and the newest ones, with the last values of the project's first metrics. */
export function readActivity(signal?: AbortSignal): Promise<ProjectActivity> {
  return queued('ProjectService.Activity', Urgency.Visible, signal, async () => {
    const options = limited(signal);
    const project = client(ProjectService);
    const counts = await project.activity({ timezoneOffsetMin: new Date().getTimezoneOffset() }, options);
    const seriesNames = counts.runCount > 0 ? await firstMetrics(options) : [];
    const parts = {
      props: true,
      ...(seriesNames.length > 0 && { seriesTypes: [SeriesType.METRIC], seriesNames }),
    };
    const list = async (filter: { active?: boolean }, pageSize: number): Promise<Run[]> =>
      (await client(RunService).list({ ...filter, archived: false, parts, pageSize }, options)).runs;
    return { counts, active: await list({ active: true }, MAX_ACTIVE), recent: await list({}, MAX_RECENT) };
  });
}

/** They are read once: the names of a project may be many. */
let shownMetrics: readonly string[] = [];

async function firstMetrics(options: CallOptions): Promise<string[]> {
  const names: string[] = [];
  const request = { types: [SeriesType.METRIC], excludeParams: true };
  if (shownMetrics.length === 0)
    for await (const { types } of client(ProjectService).params(request, options))
      names.push(...types.flatMap(type => type.names.map(({ name }) => name)));
  if (names.length > 0)
    shownMetrics = names.filter(name => !name.startsWith(SYSTEM_PREFIX)).slice(0, SHOWN_METRICS);
  return [...shownMetrics];
}
