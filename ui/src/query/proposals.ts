/** Completions of a query: what the project has, written as the query language wants it. */
import type { CborValue } from '../api/cbor.ts';
import { plainContext } from '../format/context.ts';
import { placeAt, type Place } from './place.ts';

export interface Proposal {
  text: string;
  detail: string;
  /** More is to follow, such as a member. */
  isOpen?: boolean;
}

export interface Completion extends Place {
  proposals: Proposal[];
}

/** A param, and a metric, of the project. */
export interface FoundColumns {
  params: readonly (readonly string[])[];
  metrics: readonly { name: string; context: string }[];
  /** What the search is for: metrics too, or images and other objects. */
  found: readonly { name: string }[];
}

export interface Project {
  columns(text: string): Promise<FoundColumns>;
  /** The values of a param or of a property in recent runs, most frequent first. */
  values(path: readonly string[]): Promise<readonly CborValue[]>;
  names(kind: 'experiments' | 'tags'): Promise<readonly string[]>;
}

const RUN_MEMBERS: [name: string, detail: string][] = [
  ['name', 'text'],
  ['tags', '"best" in run.tags'],
  ['experiment', 'its name, or None'],
  ['description', 'text'],
  ['created_at', 'time, such as datetime(2026, 1, 31)'],
  ['end_time', 'time, or None while it is active'],
  ['duration', 'seconds'],
  ['active', 'True or False'],
  ['archived', 'True or False'],
  ['outcome', '"finished", "failed" or "interrupted"'],
  ['hash', 'id of the run'],
  ['metrics', 'run.metrics["loss"].last'],
];
const METRIC_MEMBERS: [name: string, detail: string][] = [
  ['last', 'last value'],
  ['min', 'lowest value'],
  ['max', 'highest value'],
  ['first', 'first value'],
  ['last_step', 'number of the last step'],
  ['first_step', 'number of the first step'],
];
const SERIES_MEMBERS: [name: string, detail: string][] = [
  ['name', 'text'],
  ['context', 'metric.context.subset == "val"'],
  ...METRIC_MEMBERS,
];
const WORDS: [name: string, detail: string][] = [
  ['run', 'its properties and params'],
  ['and', 'both'],
  ['or', 'one of them'],
  ['not', 'the opposite'],
  ['in', 'is part of'],
  ['datetime', 'datetime(2026, 1, 31)'],
];
const OPEN = new Set('run metric images audios texts distributions figures metrics context'.split(' '));
const PROPERTIES = new Set([...RUN_MEMBERS.map(([name]) => name), 'creation_time', 'finalized_at', 'get']);
const KEYWORDS = new Set(
  (
    'False None True and as assert async await break class continue def del elif else except finally for from ' +
    'global if import in is lambda nonlocal not or pass raise return try while with yield'
  ).split(' '),
);
/** Methods of objects, which an attribute would find instead of a key. */
const METHODS = new Set('contains copy count get index items keys values union'.split(' '));
const OUTCOMES = ['finished', 'failed', 'interrupted'];
const MAX_PROPOSALS = 40;

export async function complete(
  text: string,
  caret: number,
  project: Project,
  subject = 'metric',
): Promise<Completion | undefined> {
  const place = placeAt(text, caret);
  if (!place) return undefined;
  const found = await proposalsFor(place, project, subject);
  const typed = text.slice(place.from, place.to);
  // A complete word needs no completion.
  const proposals = found.filter(one => one.text !== typed || one.isOpen).slice(0, MAX_PROPOSALS);
  return proposals.length > 0 ? { ...place, proposals } : undefined;
}

async function proposalsFor(
  { wanted, typed }: Place,
  project: Project,
  subject: string,
): Promise<Proposal[]> {
  switch (wanted.kind) {
    case 'name': {
      const words = fixed([...WORDS, [subject, `what is searched: ${subject}.name`]], typed);
      if (typed.length === 0) return words.filter(({ text }) => text === 'run' || text === subject);
      const { params, metrics } = await project.columns(typed);
      const paths = params.map(path => ({ text: `run${paramText(path)}`, detail: 'param' }));
      const series = metrics.map(one => ({ text: `run.metrics${metricText(one)}.last`, detail: 'metric' }));
      return [...words, ...fixed(RUN_MEMBERS, typed, 'run.'), ...paths, ...series];
    }
    case 'member':
      return members(wanted.path, typed, project);
    case 'metric member':
      return fixed(METRIC_MEMBERS, typed);
    case 'metric': {
      const { metrics } = await project.columns(typed);
      return metrics.map(one => ({ text: metricText(one).slice(1), detail: 'metric' }));
    }
    case 'value':
      return values(wanted.path, typed, project);
    case 'tag':
      return texts(await project.names('tags'), typed, 'tag');
  }
}

async function members(path: readonly string[], typed: string, project: Project): Promise<Proposal[]> {
  const [subject, ...above] = path;
  if (subject !== 'run') return above.length === 0 ? fixed(SERIES_MEMBERS, typed) : [];
  const { params } = await project.columns([...above, typed].join(' '));
  const next = new Map<string, Proposal>();
  for (const segments of params) {
    const name = segments[above.length];
    const isBelow = above.every((segment, at) => segments[at] === segment);
    if (!isBelow || name === undefined || !name.toLowerCase().includes(typed.toLowerCase())) continue;
    const isGroup = segments.length > above.length + 1;
    // Names that are no attributes have no place after a dot.
    if (!isAttribute(name, above.length)) continue;
    next.set(name, { text: name, detail: isGroup ? 'params' : 'param', isOpen: isGroup });
  }
  const own = [...next.values()].sort((a, b) => rank(a.text, typed) - rank(b.text, typed));
  return above.length > 0 ? own : [...fixed(RUN_MEMBERS, typed), ...own];
}

async function values(path: readonly string[], typed: string, project: Project): Promise<Proposal[]> {
  const key = path.join('.');
  if (key === 'run.experiment') return texts(await project.names('experiments'), typed, 'experiment');
  if (key === 'run.outcome') return texts(OUTCOMES, typed, 'outcome');
  if (/^run\.(active|archived|is_archived)$/.test(key))
    return fixed(
      [
        ['True', ''],
        ['False', ''],
      ],
      typed,
    );
  if (/^(metric|images|texts|audios|distributions|figures)\.name$/.test(key)) {
    const { found } = await project.columns(typed);
    return texts([...new Set(found.map(({ name }) => name))], typed, 'name');
  }
  if (path[0] !== 'run' || path.length < 2) return [];
  const found = await project.values(path.slice(1));
  const written = found.flatMap(value => literal(value) ?? []);
  return inOrder(
    written.map(text => ({ text, detail: 'value' })),
    typed,
  );
}

function texts(all: readonly string[], typed: string, detail: string): Proposal[] {
  return inOrder(
    all.map(text => ({ text: JSON.stringify(text), detail })),
    typed,
  );
}

function fixed(all: readonly [name: string, detail: string][], typed: string, prefix = ''): Proposal[] {
  const found = all.filter(([name]) => name.startsWith(typed) && (prefix === '' || typed !== ''));
  return found.map(([name, detail]) => ({ text: prefix + name, detail, isOpen: OPEN.has(name) }));
}

/** Those that contain what was typed, whatever its case; those that begin with it first. */
function inOrder(all: Proposal[], typed: string): Proposal[] {
  const found = all.filter(({ text }) => text.toLowerCase().includes(typed.toLowerCase()));
  return found.sort((a, b) => rank(a.text, typed) - rank(b.text, typed));
}

function rank(text: string, typed: string): number {
  return text.replace(/^"/, '').toLowerCase().startsWith(typed.toLowerCase()) ? 0 : 1;
}

function isAttribute(name: string, depth: number): boolean {
  const isName = /^[A-Za-z]\w*$/.test(name) && !KEYWORDS.has(name);
  return isName && !(depth === 0 ? PROPERTIES : METHODS).has(name);
}

/** The path of a param after `run`: `.hparams.lr`, or `["learning rate"]` where an attribute is impossible. */
export function paramText(segments: readonly string[]): string {
  const write = (name: string, at: number): string =>
    isAttribute(name, at) ? `.${name}` : `[${JSON.stringify(name)}]`;
  return segments.map(write).join('');
}

/** `["loss", {"subset": "val"}]` */
function metricText({ name, context }: { name: string; context: string }): string {
  const written = plainContext(context) === '' ? undefined : contextLiteral(context);
  return `[${JSON.stringify(name)}${written === undefined ? '' : `, ${written}`}]`;
}

function contextLiteral(context: string): string | undefined {
  try {
    return literal(JSON.parse(context) as CborValue);
  } catch {
    // NaN and infinity are allowed in contexts, but are no literals.
    return undefined;
  }
}

/** A value as the query language writes it; undefined for bytes and numbers without a literal. */
export function literal(value: CborValue): string | undefined {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : undefined;
  if (value instanceof Uint8Array) return undefined;
  const inner = Array.isArray(value) ? value.map(literal) : Object.values(value).map(literal);
  if (inner.some(text => text === undefined)) return undefined;
  if (Array.isArray(value)) return `[${inner.join(', ')}]`;
  return `{${Object.keys(value)
    .map((key, at) => `${JSON.stringify(key)}: ${inner[at]}`)
    .join(', ')}}`;
}
