/** Conditions that a click adds to a query, and the query as its conditions. */
import type { CborValue } from '../api/cbor.ts';
import { statusText } from '../format/status.ts';
import type { Props } from '../gen/matyan/runs/v1/run_pb.ts';
import { isWords, wordsCondition, wordsExpression } from './words.ts';

/** Texts, brackets, words and comments; everything else is copied as it is. */
const TOKEN = /"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|#[^\n\r]*|\w+|[\s\S]/g;
/** Operators that bind less than `and`. */
const LOOSE = /\b(or|if|else|lambda)\b/;

/**
 * The conditions of a query that all have to hold, or the whole query as one condition. They have
 * no comments, which would swallow what follows a condition.
 */
export function conditionsOf(query: string): string[] {
  if (isWords(query)) return [query.trim()];
  const tokens = (query.match(TOKEN) ?? []).filter(token => !token.startsWith('#'));
  const parts = [''];
  let depth = 0;
  for (const token of tokens) {
    depth += nesting(token);
    if (depth === 0 && token === 'and') parts.push('');
    else parts[parts.length - 1] += token;
    if (depth === 0 && /^\w/.test(token) && LOOSE.test(token)) return [tokens.join('').trim()];
  }
  return parts.map(part => part.trim()).filter(Boolean);
}

export function joinConditions(conditions: readonly string[]): string {
  if (conditions.length < 2) return conditions.join('');
  // With an `and` between them they would all be words, also the `and`.
  if (conditions.every(isWords)) return conditions.map(wordsCondition).join(' ');
  return conditions.map(one => (isWords(one) ? wordsCondition(one) : closed(one))).join(' and ');
}

function closed(condition: string): string {
  return LOOSE.test(condition) && !isInBrackets(condition) ? `(${condition})` : condition;
}

/**
 * Whether one pair of brackets is around a whole condition, unlike the brackets of `(a) or (b)`.
 */
function isInBrackets(condition: string): boolean {
  let depth = 0;
  let end = 0;
  for (const [token] of condition.matchAll(TOKEN)) {
    depth += nesting(token);
    end += token.length;
    if (depth === 0) return token === ')' && end === condition.length;
  }
  return false;
}

/** By how much a token changes the number of open brackets. */
function nesting(token: string): number {
  if ('([{'.includes(token)) return 1;
  return ')]}'.includes(token) ? -1 : 0;
}

/** The query as the server evaluates it, with expressions in place of words. */
export function expressionOf(query: string): string {
  const conditions = conditionsOf(query);
  if (!conditions.some(isWords)) return query;
  return conditions.map(one => (isWords(one) ? wordsExpression(one) : closed(one))).join(' and ');
}

/**
 * Continuations of a query that is whole: an operator after a value, or another condition after a
 * condition.
 */
export function continuations(query: string): string[] {
  const isCompared = /[=<>]|\bin\b/.test(conditionsOf(query).at(-1) ?? '');
  return isCompared ? ['and'] : ['==', '!=', '<', '<=', '>', '>=', 'and'];
}

/** The query with another condition, which it may have already. */
export function withCondition(query: string, condition: string): string {
  return joinConditions([...new Set([...conditionsOf(query), condition])]);
}

/** Finds runs that two queries find; an empty query finds all runs. */
export function bothQueries(first: string, second: string): string {
  return joinConditions([...new Set([...conditionsOf(first), ...conditionsOf(second)])]);
}

/** Attributes of a run. `tests/vectors/query_names.json` has the names that the language has. */
export const PROPERTIES = (
  'hash name description experiment created_at creation_time end_time finalized_at duration ' +
  'active archived is_archived outcome parent tags metrics get'
).split(' ');
/** Attributes of objects, which a query would find instead of a key. */
export const METHODS = 'contains copy count get index items keys union values'.split(' ');
export const KEYWORDS = (
  'False None True and as assert async await break class continue def del elif else except ' +
  'finally for from global if import in is lambda nonlocal not or pass raise return try while ' +
  'with yield'
).split(' ');

function isAttribute(name: string, depth: number): boolean {
  const taken = [...KEYWORDS, ...(depth === 0 ? PROPERTIES : METHODS)];
  return /^[A-Za-z]\w*$/.test(name) && !taken.includes(name);
}

/**
 * The param as a query has it: `run.hparams.lr`, or `run["learning rate"]` where an attribute is
 * impossible.
 */
export function paramText(segments: readonly string[]): string {
  const write = (name: string, at: number): string =>
    isAttribute(name, at) ? `.${name}` : `[${JSON.stringify(name)}]`;
  return `run${segments.map(write).join('')}`;
}

/** Whether a run has a property of this name, which is no param. */
export function isProperty(name: string): boolean {
  return PROPERTIES.includes(name);
}

/** The series of a metric: `run.metrics["loss"]`, or with a context that is a map in JSON. */
export function metricText(name: string, context: string): string {
  const entries = contextEntries(context).map(
    ([key, value]) => `${JSON.stringify(key)}: ${literal(value) ?? 'None'}`,
  );
  const own = entries.length > 0 ? `, {${entries.join(', ')}}` : '';
  return `run.metrics[${JSON.stringify(name)}${own}]`;
}

function contextEntries(context: string): [string, CborValue][] {
  try {
    return Object.entries(JSON.parse(context || '{}') as Record<string, CborValue>);
  } catch {
    // NaN is allowed in contexts, but not in JSON. The name finds the run, too.
    return [];
  }
}

/** A value as a query has it; undefined if it has no literal. */
export function literal(value: CborValue | undefined): string | undefined {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'bigint' || Number.isFinite(value)) return String(value);
  return typeof value === 'string' ? JSON.stringify(value) : undefined;
}

/** Finds runs with a param of this value; undefined if the query language cannot write it. */
export function paramCondition(segments: readonly string[], value: CborValue | undefined) {
  const written = literal(value);
  return written && `${paramText(segments)} == ${written}`;
}

/** Finds exactly these runs. */
export function hashCondition(runIds: readonly string[]): string {
  const [first] = runIds;
  if (runIds.length === 1) return `run.hash == ${JSON.stringify(first)}`;
  return `run.hash in [${runIds.map(id => JSON.stringify(id)).join(', ')}]`;
}

/** A query for a heading: a list of runs is their number. */
export function shortQuery(query: string): string {
  return query.replace(/run\.hash in \[([^\]]*)\]/g, (_, ids: string) => {
    const count = ids.match(/"[^"]*"/g)?.length ?? 0;
    return count === 1 ? '1 chosen run' : `${count} chosen runs`;
  });
}

export function experimentCondition(name: string): string {
  return `run.experiment == ${JSON.stringify(name)}`;
}

export function tagCondition(name: string): string {
  return `${JSON.stringify(name)} in run.tags`;
}

export function statusCondition(props: Pick<Props, 'active' | 'outcome'>): string {
  const status = statusText(props);
  if (props.active) return 'run.active';
  if (status === undefined) return 'run.outcome == None and not run.active';
  return `run.outcome == "${status}"`;
}
