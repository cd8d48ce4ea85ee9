/** All pages: their paths, the state in their URLs, and their code, which is loaded when a page is opened first. */
import type { Component } from 'svelte';

import { choice, field, flag, list, number, text, type Schema, type State } from './url.ts';

const X_AXES = ['step', 'relative', 'time', 'epoch', 'metric'] as const;
export type XAxis = (typeof X_AXES)[number];

export const RUN_TABS = [
  'overview',
  'metrics',
  'params',
  'media',
  'terminal',
  'logs',
  'artifacts',
  'system',
  'environment',
  'changes',
] as const;
/** Numbers of runs whose charts are shown. */
export const RUN_LIMITS = ['50', '200', '1000'] as const;
/** The lowest level of log records to show. */
export const LOG_LEVELS = ['all', 'info', 'warning', 'error'] as const;

const query = field(text, '');

const charts = {
  m: field(text, ''),
  x: field(choice(...X_AXES), 'step'),
  /** The metric that is the x axis, if `x` says so. */
  xm: field(text, ''),
  /** Weight of the past in the smoothed line: per point, or per 1/200 of the steps of a long series. */
  smooth: field(number, 0),
  logx: field(flag, false),
  logy: field(flag, false),
  /** The y axis ignores values far from all others. */
  calm: field(flag, false),
  /** Columns, such as `experiment` or `param:lr`, that decide the color, the dashes and the chart of a run. */
  by: field(text, ''),
  stroke: field(text, ''),
  chart: field(text, ''),
  /** The runs of one color are one line with a band, or a line each. */
  center: field(choice('mean', 'median', 'each'), 'mean'),
  band: field(choice('extremes', 'deviation', 'confidence', 'none'), 'extremes'),
  from: field<number | undefined>(number, undefined),
  to: field<number | undefined>(number, undefined),
  /** Ends of the y axis; absent: those of the data. */
  low: field<number | undefined>(number, undefined),
  high: field<number | undefined>(number, undefined),
  /** Titles of sections of charts that are closed. */
  closed: field(list, [] as string[]),
} satisfies Schema;

const GROUPINGS = ['run', 'step', 'index', 'context'] as const;
export type MediaGrouping = (typeof GROUPINGS)[number];

const media = {
  kind: field(choice('images', 'audio', 'texts', 'distributions', 'figures'), 'images'),
  group: field(choice(...GROUPINGS), 'run'),
  /** Step of the slider; absent: the last one. */
  at: field<number | undefined>(number, undefined),
  each: field(flag, false),
  /** The steps to show, if not all of them, and whether all objects of each are shown. */
  since: field<number | undefined>(number, undefined),
  until: field<number | undefined>(number, undefined),
  whole: field(flag, false),
  /** Number of the newest runs with objects. More rows are not compared by eye. */
  most: field(number, 12),
  size: field(number, 160),
  /** How distributions are shown: one step, or all of them. */
  shape: field(choice('bars', 'heat', 'ridges'), 'bars'),
  /** Ids of the image that is shown large, and of the one next to it. */
  img: field(text, ''),
  vs: field(text, ''),
  ab: field(choice('side', 'slider'), 'side'),
} satisfies Schema;

export type MediaState = State<typeof media>;

export type ChartsState = State<typeof charts>;

export const schemas = {
  runs: {
    q: query,
    /** Columns, with a minus for descending order; the most significant one first. */
    sort: field(list, ['-created']),
    /** Columns by which runs are grouped, and the tokens of the groups that are open. */
    group: field(list, [] as string[]),
    open: field(list, [] as string[]),
    /** Columns after the name, such as `created`, `param:hparams.lr` and `metric:loss`; empty: chosen from the data. */
    columns: field(list, [] as string[]),
    left: field(list, [] as string[]),
    /** Widths in pixels, such as `created=120`. */
    widths: field(list, [] as string[]),
    differ: field(flag, false),
    pins: field(list, [] as string[]),
    /** Id of the run that the others are compared with. */
    baseline: field(text, ''),
  },
  run: {
    tab: field(choice(...RUN_TABS), 'metrics'),
    level: field(choice(...LOG_LEVELS), 'all'),
    diff: field(text, ''),
    file: field(text, ''),
    ...charts,
    ...media,
  },
  metrics: {
    q: query,
    /** Number of the newest runs that are shown. */
    limit: field(choice(...RUN_LIMITS), '50'),
    list: field(flag, true),
    ...charts,
  },
  media: { q: query, ...media },
  params: {
    q: query,
    /** The metric that gives lines their color; empty: the first one. */
    metric: field(text, ''),
    /** Columns, as in the table of runs; empty: chosen from the data. */
    axes: field(list, [] as string[]),
    /** Ranges of axes, such as `param:lr=0.001..0.1`. */
    brush: field(list, [] as string[]),
    view: field(choice('parallel', 'scatter'), 'parallel'),
    /** Columns of the scatter plot; empty: what the metric depends on most, and the metric. */
    sx: field(text, ''),
    sy: field(text, ''),
  },
  compare: {
    tab: field(choice('values', 'charts'), 'values'),
    /** Ids of runs; empty: the newest ones of the query. */
    runs: field(list, [] as string[]),
    q: query,
    all: field(flag, false),
    /** Id of the row whose best value comes first; empty: runs have the order in which they were chosen or found. */
    sort: field(text, ''),
    ...charts,
  },
  list: { q: query },
  document: { edit: field(flag, false) },
} satisfies Record<string, Schema>;

export interface Route {
  name: string;
  title: string;
  path: string;
  load: () => Promise<{ default: Component }>;
  /** Key that opens the page after `g`; empty: none. */
  key: string;
}

type Load = Route['load'];

const entities: Load = () => import('../pages/Entities.svelte');

function route(name: string, title: string, key: string, load: Load, path = `/${name}`): Route {
  return { name, title, path, load, key };
}

/** In the order of the navigation; pages without a key are not part of it. */
export const routes: readonly Route[] = [
  route('home', 'Home', 'h', () => import('../pages/Home.svelte')),
  route('runs', 'Runs', 'r', () => import('../pages/Runs.svelte')),
  route('metrics', 'Metrics', 'm', () => import('../pages/Metrics.svelte')),
  route('params', 'Params', 'p', () => import('../pages/ParamsExplorer.svelte')),
  route('media', 'Media', 'i', () => import('../pages/Media.svelte')),
  route('compare', 'Compare', 'c', () => import('../pages/Compare.svelte')),
  route('experiments', 'Experiments', 'e', entities),
  route('tags', 'Tags', 't', entities),
  route('dashboards', 'Dashboards', 'd', entities),
  route('reports', 'Reports', 'o', entities),
  route('dashboard', 'Dashboard', '', () => import('../pages/Dashboard.svelte'), '/dashboards/:document'),
  route('report', 'Report', '', () => import('../pages/Report.svelte'), '/reports/:document'),
  route('project', 'Project', '', () => import('../pages/Project.svelte')),
  route('run', 'Run', '', () => import('../pages/Run.svelte'), '/runs/:run'),
];

/** Pages of Aim, which users have bookmarked, and the kind of media that shows the same. */
export const MOVED: { [page: string]: MediaState['kind'] } = {
  ...{ images: 'images', audios: 'audio', text: 'texts', texts: 'texts' },
  ...{ distributions: 'distributions', figures: 'figures' },
};
