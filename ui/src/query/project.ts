/** What queries can name in this project, read once and kept for some time. */
import { decodeMap, isMap, type CborValue } from '../api/cbor.ts';
import { readEntities } from '../api/project.ts';
import { Urgency } from '../api/read_queue.ts';
import { findNewest } from '../api/runs.ts';
import { client, limited, queued } from '../api/transport.ts';
import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import { ProjectService } from '../gen/matyan/project/v1/project_pb.ts';
import { literal, type FoundColumns, type Project } from './proposals.ts';

/** The server keeps its summary of the names for as long. */
const KEEP_MS = 30_000;
const MAX_KEPT = 200;
const MAX_COLUMNS = 60;
/** Runs whose values are proposed, and how many of them. */
const VALUE_RUNS = 200;
const MAX_VALUES = 30;

const kept = new Map<string, { until: number; value: Promise<unknown> }>();

function keep<T>(key: string, read: () => Promise<T>): Promise<T> {
  const known = kept.get(key);
  if (known && known.until > Date.now()) return known.value as Promise<T>;
  const value = read();
  kept.delete(key);
  kept.set(key, { until: Date.now() + KEEP_MS, value });
  // A failure is not kept.
  value.catch(() => kept.delete(key));
  for (const old of kept.keys()) if (kept.size > MAX_KEPT) kept.delete(old);
  return value;
}

export const project: Project = projectFor(SeriesType.METRIC);

/** For searches for series of a type. */
export function projectFor(type: SeriesType): Project {
  return {
    columns: text => keep(`columns ${type} ${text}`, () => findColumns(text, type)),
    values: path => keep(`values ${JSON.stringify(path)}`, () => valuesOf(path)),
    names: kind => keep(kind, async () => (await readEntities(kind)).map(({ name }) => name)),
  };
}

function findColumns(text: string, type: SeriesType): Promise<FoundColumns> {
  return queued('ProjectService.FindColumns', Urgency.Visible, undefined, async () => {
    const request = { text, types: [...new Set([type, SeriesType.METRIC])], limit: MAX_COLUMNS };
    const { params, series } = await client(ProjectService).findColumns(request, limited());
    return {
      params: params.map(({ segments }) => segments),
      metrics: series.filter(one => one.type === SeriesType.METRIC),
      found: series.filter(one => one.type === type),
    };
  });
}

/** Properties of runs that have values to choose from. */
const PROPS: Record<string, 'name' | 'description'> = { name: 'name', description: 'description' };

async function valuesOf(path: readonly string[]): Promise<CborValue[]> {
  const prop = path.length === 1 ? PROPS[path[0] ?? ''] : undefined;
  const parts = prop ? { props: true } : { paramPaths: [{ segments: [...path] }] };
  const { runs } = await findNewest('', parts, VALUE_RUNS);
  const counts = new Map<string, { value: CborValue; count: number }>();
  for (const run of runs) {
    const value = prop ? run.props?.[prop] : valueAt(decodeMap(run.params), path);
    const text = value === undefined || value === '' ? undefined : literal(value);
    if (value === undefined || text === undefined) continue;
    counts.set(text, { value, count: (counts.get(text)?.count ?? 0) + 1 });
  }
  const all = [...counts.values()].sort((a, b) => b.count - a.count);
  return all.slice(0, MAX_VALUES).map(({ value }) => value);
}

function valueAt(params: CborValue, path: readonly string[]): CborValue | undefined {
  let value: CborValue | undefined = params;
  for (const segment of path) value = isMap(value) ? value[segment] : undefined;
  return value;
}
