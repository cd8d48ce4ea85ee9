/** What queries can name in this project. */
import type { CborValue } from '../api/cbor.ts';
import { findColumns, readEntities } from '../api/project.ts';
import { findGroups } from '../api/runs.ts';
import { SeriesType } from '../gen/matyan/common/v1/common_pb.ts';
import { GroupOrder, SortField } from '../gen/matyan/search/v1/search_pb.ts';
import type { FoundColumns, Project } from './proposals.ts';

const MAX_COLUMNS = 60;
const MAX_VALUES = 30;

export const project: Project = projectFor(SeriesType.METRIC);

/** For searches for series of a type. */
export function projectFor(type: SeriesType): Project {
  return {
    columns: text => columnsOf(text, type),
    values: valuesOf,
    names: async kind => (await readEntities(kind)).map(({ name }) => name),
  };
}

async function columnsOf(text: string, type: SeriesType): Promise<FoundColumns> {
  const types = [...new Set([type, SeriesType.METRIC])];
  const { params, series } = await findColumns(text, types, MAX_COLUMNS);
  return {
    params: params.map(({ segments }) => segments),
    metrics: series.filter(one => one.type === SeriesType.METRIC),
    found: series.filter(one => one.type === type),
  };
}

async function valuesOf(path: readonly string[]): Promise<CborValue[]> {
  const isName = path.length === 1 && path[0] === 'name';
  const name = { case: 'field' as const, value: SortField.NAME };
  const by = isName ? name : { case: 'param' as const, value: { segments: [...path] } };
  const request = { by: [{ by }], order: GroupOrder.COUNT, descending: true, limit: MAX_VALUES };
  const { groups } = await findGroups('', request);
  return groups.flatMap(({ values }) => {
    const value = values[0]?.value.value;
    return value === undefined || value === '' ? [] : value;
  });
}
