/**
 * Panels: charts, tables and texts as data. Dashboards, reports and the large view of a chart show
 * the same panels with the same renderer. A panel is written like the state of a page in a URL: each
 * field has a codec and a default, and fields with their default are left out.
 */
import { isMap, type CborValue } from '../api/cbor.ts';
import type { CborState } from '../api/cbor_writer.ts';
import { LINE_WIDTHS, MEDIA_KINDS, X_AXES, type ChartsState, schemas } from '../state/routes.ts';
import { choice, decode, field, list, number, text, type Codec, type State } from '../state/url.ts';
import { parseColumn } from '../pages/runs/columns.ts';

/** The kinds of panels, with their names. */
export const PANEL_KINDS = {
  chart: 'Line chart',
  bar: 'Bar chart',
  scatter: 'Scatter plot',
  parallel: 'Parallel coordinates',
  importance: 'Importance of params',
  heat: 'Heat map of metrics by steps',
  number: 'Number',
  runs: 'Table of runs',
  media: 'Media',
  text: 'Text',
} as const;
export type PanelKind = keyof typeof PANEL_KINDS;

const KINDS = Object.keys(PANEL_KINDS) as PanelKind[];
/** Columns of the grid of a dashboard, and the rows of the highest panel. */
export const COLUMNS = 6;
export const MAX_ROWS = 12;
/** Numbers that a panel computes from the values of its runs. */
export const NUMBERS = ['best', 'mean', 'median', 'count'] as const;

/** Authors of reports write these words. */
const yesNo: Codec<boolean> = {
  read: text =>
    /^(yes|true|on|1)$/i.test(text) ? true : /^(no|false|off|0)$/i.test(text) ? false : undefined,
  write: value => (value ? 'yes' : 'no'),
};
const PATTERN = /^\/(.+)\/$/s;

/** Names with commas between them, or a pattern, which may have its own commas. */
const names: Codec<string[]> = {
  read: text =>
    PATTERN.test(text.trim())
      ? [text.trim()]
      : list.read(text)?.map(name => name.trim()).filter(Boolean), // prettier-ignore
  write: all =>
    PATTERN.test(all[0] ?? '') ? (all[0] ?? '') : all.map(one => list.write([one])).join(', '),
};

/** The names of metrics in a text that a reader types. */
export function metricNames(text: string): string[] {
  return names.read(text) ?? [];
}

export function metricText(metric: readonly string[]): string {
  return names.write([...metric]);
}

/** A column such as `experiment` or `param:hparams.lr`. */
const column: Codec<string> = {
  read: text => (text === '' || parseColumn(text) ? text : undefined),
  write: text => text,
};
const columns: Codec<string[]> = {
  read: text => {
    const all = names.read(text);
    return all?.every(one => parseColumn(one)) ? [...new Set(all)] : undefined;
  },
  write: names.write,
};
/** Columns in whose order runs are, with a minus for descending order. */
const orders: Codec<string[]> = {
  read: text => {
    const all = names.read(text);
    const isOrder = (one: string): boolean =>
      /^-?name$/.test(one) || !!parseColumn(one.replace(/^-/, ''));
    return all?.every(isOrder) ? all : undefined;
  },
  write: names.write,
};

const schema = {
  kind: field(choice(...KINDS), 'chart'),
  /** Empty: what the panel shows. */
  title: field(text, ''),
  query: field(text, ''),
  /** Names of metrics, or one pattern between slashes. Kinds with one metric use the first. */
  metric: field(names, [] as string[]),
  x: field(choice(...X_AXES), 'auto'),
  /** The metric of the x axis if `x` says so. */
  xm: field(text, ''),
  smooth: field(number, 0),
  logx: field(yesNo, false),
  logy: field(yesNo, false),
  calm: field(yesNo, false),
  line: field(choice(...LINE_WIDTHS), 'auto'),
  low: field<number | undefined>(number, undefined),
  high: field<number | undefined>(number, undefined),
  /** Ends of the x axis. */
  from: field<number | undefined>(number, undefined),
  to: field<number | undefined>(number, undefined),
  /** A column by which runs are grouped, such as `param:lr`; empty: none. */
  by: field(column, ''),
  center: field(choice('mean', 'median', 'each'), 'mean'),
  band: field(choice('extremes', 'deviation', 'confidence', 'none'), 'extremes'),
  legend: field(yesNo, true),
  /** Whether the axes of metrics reach to values far from all others. */
  outliers: field(yesNo, false),
  /** The order of the runs of a table; empty: the newest first. */
  sort: field(orders, [] as string[]),
  /** Columns of a table, or axes of parallel coordinates; empty: chosen from the data. */
  columns: field(columns, [] as string[]),
  /** The column on the x axis of a scatter plot; empty: the most important param. */
  column: field(column, ''),
  number: field(choice(...NUMBERS), 'best'),
  media: field(choice(...MEDIA_KINDS), 'images'),
  /** Number of the newest runs; absent: as many as the kind usually shows. */
  runs: field<number | undefined>(number, undefined),
  text: field(text, ''),
  width: field(number, 3),
  height: field(number, 4),
};

export type Panel = State<typeof schema>;
export type PanelField = keyof Panel;

const FIELDS = Object.keys(schema) as PanelField[];
const PLACE: readonly PanelField[] = ['width', 'height'];
const MAX_RUNS = 1_000;

export const EMPTY_PANEL: Panel = decode(schema, '');
export const NEW_PANEL: Panel = { ...EMPTY_PANEL, metric: ['loss'] };

/** The fields that each kind uses, besides its kind, title and place. */
const LINES: readonly PanelField[] = [
  ...(['query', 'runs', 'metric', 'x', 'xm', 'from', 'to', 'smooth', 'logx', 'logy'] as const),
  ...(['calm', 'line', 'low', 'high', 'by', 'center', 'band', 'legend'] as const),
];
const USED: Record<PanelKind, readonly PanelField[]> = {
  chart: LINES,
  bar: ['query', 'runs', 'metric', 'by'],
  scatter: ['query', 'metric', 'column', 'logy', 'outliers'],
  parallel: ['query', 'metric', 'columns', 'logy', 'outliers'],
  importance: ['query', 'metric'],
  heat: ['query', 'runs', 'metric'],
  number: ['query', 'runs', 'metric', 'number'],
  runs: ['query', 'runs', 'sort', 'columns'],
  media: ['query', 'runs', 'media'],
  text: ['text'],
};

export function uses({ kind }: Panel, name: PanelField): boolean {
  return USED[kind].includes(name);
}

/** How many runs each kind shows without a choice. Panels of params read as many as their page. */
const USUAL_RUNS: Partial<Record<PanelKind, number>> = {
  scatter: MAX_RUNS,
  parallel: MAX_RUNS,
  importance: MAX_RUNS,
  runs: 20,
  media: 6,
  number: MAX_RUNS,
  heat: 1,
};
const USUAL = 50;

export function runsOf(panel: Panel): number {
  const chosen = uses(panel, 'runs') ? panel.runs : undefined;
  return clamped(chosen ?? USUAL_RUNS[panel.kind] ?? USUAL, 1, MAX_RUNS);
}

function clamped(value: number, low: number, high: number): number {
  return Math.min(Math.max(Math.round(value), low), high);
}

function placed(panel: Panel): Panel {
  return {
    ...panel,
    width: clamped(panel.width, 1, COLUMNS),
    height: clamped(panel.height, 2, MAX_ROWS),
  };
}

/** A panel of another place or size; both stay within the grid. */
export function resized(panel: Panel, width: number, height: number): Panel {
  return placed({ ...panel, width: panel.width + width, height: panel.height + height });
}

/** Fields as they are written, without defaults. */
function written(panel: Panel): Map<PanelField, string> {
  const isDefault = (name: PanelField): boolean =>
    JSON.stringify(panel[name]) === JSON.stringify(EMPTY_PANEL[name]);
  return new Map(FIELDS.filter(name => !isDefault(name)).map(name => [name, write(panel, name)]));
}

function write(panel: Panel, name: PanelField): string {
  // Each codec takes the values of its own field.
  const codec = schema[name].codec as { write(value: unknown): string };
  return codec.write(panel[name]);
}

/** The panel as the server keeps it. */
export function panelState(panel: Panel): CborState {
  return Object.fromEntries(written(panel));
}

/** Reads a stored panel. Fields that are unknown, invalid or missing get their default. */
export function panelFrom(value: CborValue | undefined): Panel {
  const known = isMap(value) ? value : {};
  // Panels were kept with a number as their width, and with one metric, when they had one each.
  const isOld = typeof known.width === 'number' && typeof known.metric === 'string';
  const stored = isOld ? { ...known, metric: names.write([String(known.metric)]) } : known;
  const fields = FIELDS.flatMap(name => {
    const own = stored[name];
    const isPlain = typeof own === 'string' || typeof own === 'number' || typeof own === 'bigint';
    return isPlain ? [[name, String(own)] as [string, string]] : [];
  });
  return placed(decode(schema, new URLSearchParams(fields).toString()));
}

/** A mistake in a written panel, and the line of the panel that has it, from 1 on. */
export interface PanelMistake {
  line: number;
  message: string;
}

/**
 * Reads a panel of a report: lines such as `metric: loss`. A line that is indented continues the
 * line above, so that texts can have several. `matyan publish` reads the settings that decide
 * which runs a panel shows, and notebooks read charts; `tests/vectors/panels.json` has cases for all.
 */
export function parsePanel(kind: string, code: string): { panel: Panel; mistakes: PanelMistake[] } {
  const mistakes: PanelMistake[] = [];
  const fields = new Map<string, string>([['kind', kind]]);
  /** The setting that an indented line continues; empty after a line with a mistake. */
  let last: PanelField | '' | undefined;
  for (const [at, line] of code.split('\n').entries()) {
    const wrong = (message: string): void => void mistakes.push({ line: at + 1, message });
    const [, name = '', value = ''] = /^(\w[\w ]*?)\s*:\s*(.*?)\s*$/s.exec(line) ?? [];
    const known = FIELDS.find(own => own === name);
    if (line.trim() === '') continue;
    if (/^\s/.test(line) && last !== undefined) {
      if (last !== '') fields.set(last, `${fields.get(last) ?? ''}\n${line.trim()}`.trim());
      continue;
    }
    last = '';
    if (name === '') wrong(`“${line.trim()}” is no setting. Write “name: value”.`);
    else if (!known || PLACE.includes(known) || known === 'kind') wrong(unknownText(name, kind));
    else if (known !== 'title' && !USED[kind as PanelKind]?.includes(known))
      wrong(`A panel “${kind}” has no setting “${name}”. ${settingsText(kind)}`);
    else if (fields.has(known)) wrong(`“${name}” is set twice.`);
    else if (!isReadable(known, value)) wrong(valueText(known, value));
    else {
      fields.set(known, value);
      last = known;
    }
  }
  const panel = placed(decode(schema, new URLSearchParams([...fields]).toString()));
  return { panel, mistakes };
}

function isReadable(name: PanelField, value: string): boolean {
  if (name === 'metric' && isBrokenPattern(value)) return false;
  return value === '' || schema[name].codec.read(value) !== undefined;
}

function isBrokenPattern(text: string): boolean {
  const metric = metricNames(text);
  return isPattern(metric) && patternOf(metric) === undefined;
}

function valueText(name: PanelField, value: string): string {
  const start = `“${name}” cannot be “${value}”.`;
  if (name === 'by' || name === 'sort' || name.startsWith('column')) {
    const hint = parseColumn(`param:${value}`) ? `“param:${value}” is a param.` : '';
    return `${start} It is a column, such as “experiment”. ${hint}`.trimEnd();
  }
  if (name === 'metric') return `${start} The pattern is no regular expression.`;
  const choices = CHOICES[name];
  if (choices) return `${start} It is ${choices.join(', ')}.`;
  return `${start} It is ${typeof schema[name].fallback === 'boolean' ? 'yes or no' : 'a number'}.`;
}

const CHOICES: Partial<Record<PanelField, readonly string[]>> = {
  x: X_AXES,
  line: LINE_WIDTHS,
  center: ['mean', 'median', 'each'],
  band: ['extremes', 'deviation', 'confidence', 'none'],
  number: NUMBERS,
  media: MEDIA_KINDS,
};

function settingsOf(kind: string): string[] {
  return ['title', ...(USED[kind as PanelKind] ?? [])];
}

function settingsText(kind: string): string {
  return `It has ${settingsOf(kind).join(', ')}.`;
}

function unknownText(name: string, kind: string): string {
  const near = settingsOf(kind).find(own => name.length > 2 && own.startsWith(name.slice(0, 3)));
  return `There is no setting “${name}”. ${near ? `Did you mean “${near}”?` : settingsText(kind)}`;
}

/** Whether code in this language is a panel. */
export function isPanelKind(language: string): language is PanelKind {
  return Object.hasOwn(PANEL_KINDS, language);
}

/** The panel as a report has it. A text needs no panel there. */
export function panelCode(panel: Panel): string {
  if (panel.kind === 'text') return panel.text;
  const lines = [...written(panel)]
    .filter(([name]) => name !== 'kind' && !PLACE.includes(name))
    .map(([name, value]) => `${name}: ${value.replace(/\n/g, '\n  ')}`);
  return `\`\`\`${panel.kind}\n${lines.map(line => `${line}\n`).join('')}\`\`\``;
}

/** The title that the reader gave to a panel, or what the panel shows. */
export function panelTitle(panel: Panel): string {
  const { kind, title, metric } = panel;
  if (title !== '') return title;
  const names = metric.join(', ');
  if (kind === 'runs') return 'Runs';
  if (kind === 'importance') return `What ${names || 'the metric'} depends on`;
  if (kind === 'media' || kind === 'text') return PANEL_KINDS[kind];
  return names || PANEL_KINDS[kind];
}

/** Settings of charts on pages, as far as panels have them. */
const SHARED = [
  ...(['x', 'xm', 'smooth', 'logx', 'logy', 'calm', 'low', 'high', 'from', 'to'] as const),
  ...(['line', 'center', 'band'] as const),
];

/** The mistake in the chosen ends of the axes of a chart; empty: none. */
export function endsMistake({ from, to, low, high }: Panel): string {
  const isWrong = (first = -Infinity, last = Infinity): boolean => first >= last;
  if (isWrong(from, to)) return 'The first x must be below the last x.';
  return isWrong(low, high) ? 'The lowest y must be below the highest y.' : '';
}

/** The settings of a page of charts that shows the panel. */
export function chartSettings(panel: Panel): ChartsState {
  const own = Object.fromEntries(SHARED.map(name => [name, panel[name]]));
  return { ...decode(schemas.metrics, ''), ...own, by: panel.by === '' ? [] : [panel.by] };
}

/** The panel that shows what a chart of a page shows. */
export function panelOfChart(metrics: string[], query: string, settings: ChartsState): Panel {
  const own = Object.fromEntries(SHARED.map(name => [name, settings[name]]));
  return { ...EMPTY_PANEL, ...own, metric: metrics, query, by: settings.by[0] ?? '' };
}

/** Whether a metric belongs to a panel: its names, or one pattern between slashes. */
export function isShown(metric: readonly string[], name: string): boolean {
  return isPattern(metric) ? patternOf(metric)?.test(name) === true : metric.includes(name);
}

/** Undefined without a pattern, and while the pattern is incomplete. */
function patternOf([first = '']: readonly string[]): RegExp | undefined {
  try {
    const source = PATTERN.exec(first)?.[1];
    return source === undefined ? undefined : new RegExp(source, 'i');
  } catch {
    return undefined;
  }
}

export function isPattern(metric: readonly string[]): boolean {
  return PATTERN.test(metric[0] ?? '');
}

/**
 * Words that each name has that a pattern finds, so that the server leaves out most others. Empty if
 * a pattern has choices and repetitions.
 */
export function patternWords(metric: readonly string[]): string {
  const source = PATTERN.exec(metric[0] ?? '')?.[1] ?? '';
  if (/[|?*+{}[\]()]/.test(source)) return '';
  return source
    .split(/\\.|\W+/)
    .filter(Boolean)
    .join(' ');
}

export function moved<T>(all: readonly T[], from: number, to: number): T[] {
  const others = all.filter((_, at) => at !== from);
  const one = all[from];
  return one === undefined
    ? [...all]
    : others.toSpliced(Math.min(Math.max(to, 0), others.length), 0, one);
}
