/** Conditions that are chosen instead of written: a field, an operator and a value. */
import { decodeMap, isMap, type CborValue } from '../api/cbor.ts';
import { groupBy } from '../collections.ts';
import { plainContext } from '../format/context.ts';
import { comparable, isNumber, plainText } from '../format/value.ts';
import type { Run } from '../gen/matyan/runs/v1/run_pb.ts';
import { literal, metricText, paramText } from './conditions.ts';

export type FilterField =
  | { kind: 'param'; segments: readonly string[] }
  | { kind: 'metric'; name: string; context: string }
  | { kind: 'name' | 'experiment' | 'tag' };

export type Operator = '==' | '!=' | '<' | '<=' | '>' | '>=' | 'contains' | 'missing';

export const PROPERTIES: readonly FilterField[] = [
  { kind: 'name' },
  { kind: 'experiment' },
  { kind: 'tag' },
];
const TITLES = { name: 'Name', experiment: 'Experiment', tag: 'Tag' };

function fieldTitle(field: FilterField): string {
  if (field.kind === 'param') return field.segments.join('.');
  if (field.kind === 'metric') return `${field.name} ${field.context}`.trimEnd();
  return TITLES[field.kind];
}

/**
 * Fields by different titles. A title that several fields would have is followed by how the query
 * language names each: a metric and a param can have one name, and `a.b` is one key, or two.
 */
export function titledFields(fields: readonly FilterField[]): Map<string, FilterField> {
  const different = new Map(fields.map(field => [subjectOf(field), field]));
  const titles = groupBy([...different.values()], fieldTitle);
  return new Map(
    [...different].map(([subject, field]) => {
      const title = fieldTitle(field);
      const isShared = (titles.get(title)?.length ?? 0) > 1;
      return [isShared ? sharedTitle(title, subject) : title, field];
    }),
  );
}

function sharedTitle(title: string, subject: string): string {
  return `${title} · ${subject}`;
}

/** Whether several fields would have this title. */
export function isSharedTitle(fields: ReadonlyMap<string, FilterField>, title: string): boolean {
  return [...fields].some(([own, field]) => own === sharedTitle(title, subjectOf(field)));
}

/** The values of a field in a run; several tags are several values. */
export function fieldValues(field: FilterField, run: Run): CborValue[] {
  const { props, params, series } = run;
  if (field.kind === 'name') return [props?.name ?? ''];
  if (field.kind === 'experiment') return props?.experiment ? [props.experiment.name] : [];
  if (field.kind === 'tag') return props?.tags.map(({ name }) => name) ?? [];
  if (field.kind === 'metric')
    return series.flatMap(({ name, context, last }) =>
      name === field.name && plainContext(context) === field.context && last !== undefined
        ? [last]
        : [],
    );
  if (field.kind !== 'param') return [];
  let value: CborValue | undefined = decodeMap(params);
  for (const segment of field.segments) value = isMap(value) ? value[segment] : undefined;
  return value === undefined ? [] : [value];
}

export function operatorsOf(field: FilterField, values: readonly CborValue[]): Operator[] {
  if (field.kind === 'tag') return ['=='];
  if (field.kind === 'name') return ['contains', '=='];
  if (field.kind === 'metric') return ['<', '<=', '>', '>='];
  const own: Operator[] =
    values.length > 0 && values.every(isNumber)
      ? ['<', '<=', '>', '>=', '==', '!=']
      : ['==', '!=', 'contains'];
  return field.kind === 'param' ? [...own, 'missing'] : own;
}

/**
 * The condition as the query language has it; undefined as long as a value is missing. `text` is a
 * value of the sample, or what the reader wrote.
 */
export function builtCondition(
  field: FilterField,
  operator: Operator,
  text: string,
  values: readonly CborValue[] = [],
): string | undefined {
  const subject = subjectOf(field);
  if (operator === 'missing') return `${subject} is None`;
  if (text.trim() === '') return undefined;
  const chosen = valueOf(text, values, field.kind === 'metric');
  const value = literal(chosen);
  // The value of a metric is never a text.
  if (value === undefined || (field.kind === 'metric' && !isNumber(chosen))) return undefined;
  if (operator === 'contains') return `${JSON.stringify(text)} in ${subject}`;
  if (field.kind === 'tag') return `${value} in run.tags`;
  return `${subject} ${operator} ${value}`;
}

function subjectOf(field: FilterField): string {
  if (field.kind === 'param') return paramText(field.segments);
  if (field.kind === 'metric') return `${metricText(field.name, field.context)}.last`;
  return `run.${field.kind}`;
}

/** A number where the values are numbers, because a text never equals a number. */
function valueOf(text: string, values: readonly CborValue[], isMetric: boolean): CborValue {
  const same = values.find(value => plainText(value) === text || literal(value) === text);
  if (same !== undefined) return same;
  const number = Number(text);
  const isNumeric = isMetric || (values.length > 0 && values.every(isNumber));
  return isNumeric && !Number.isNaN(number) ? number : text;
}

/** Values with the number of runs that have each, the most common first. */
export function commonValues(values: readonly CborValue[], most: number): [string, number][] {
  const counts = new Map<string, { text: string; count: number }>();
  for (const value of values) {
    const known = counts.get(comparable(value));
    if (known) known.count += 1;
    else counts.set(comparable(value), { text: literal(value) ?? plainText(value), count: 1 });
  }
  const all = [...counts.values()].sort((a, b) => b.count - a.count);
  const plain = (text: string): string =>
    text.startsWith('"') ? (JSON.parse(text) as string) : text;
  return all.slice(0, most).map(({ text, count }) => [plain(text), count]);
}

/** Numbers of values in parts of equal width, on a logarithmic scale if they spread that far. */
export function histogram(values: readonly number[], parts: number): number[] {
  const known = values.filter(Number.isFinite);
  const low = Math.min(...known);
  const isLog = low > 0 && Math.max(...known) / low > 50;
  const placed = known.map(value => (isLog ? Math.log(value) : value));
  const start = Math.min(...placed);
  const width = (Math.max(...placed) - start) / parts || 1;
  const counts = new Array<number>(parts).fill(0);
  for (const value of placed) {
    const at = Math.min(parts - 1, Math.floor((value - start) / width));
    counts[at] = (counts[at] ?? 0) + 1;
  }
  return counts;
}
