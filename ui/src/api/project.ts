/** Contents of the project: the names that columns and queries can use, and the lists of its entities. */
import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import { DashboardService } from '../gen/matyan/dashboards/v1/dashboards_pb.ts';
import { ExperimentService } from '../gen/matyan/experiments/v1/experiments_pb.ts';
import { ProjectService, type SequenceName } from '../gen/matyan/project/v1/project_pb.ts';
import { ReportService } from '../gen/matyan/reports/v1/reports_pb.ts';
import { TagService } from '../gen/matyan/tags/v1/tags_pb.ts';
import { decodeMap, type CborValue } from './cbor.ts';
import { reads, Urgency } from './read_queue.ts';
import { call, client, limited } from './transport.ts';

export interface ProjectColumns {
  params: { [key: string]: CborValue };
  metrics: SequenceName[];
}

/** Reads all params, and names and contexts of all metrics. */
export function readColumns(signal?: AbortSignal): Promise<ProjectColumns> {
  return reads.run(Urgency.Visible, signal, () =>
    call('ProjectService.Params', async () => {
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
      return { params: decodeMap(concatenated(pieces)), metrics: [...metrics.values()] };
    }),
  );
}

function concatenated(pieces: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
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
  return reads.run(Urgency.Visible, signal, () =>
    call(`${kind} list`, async () => {
      const all: Entity[] = [];
      for await (const page of entities(kind, signal)) all.push(...page);
      return all;
    }),
  );
}
