/** All pages: their paths, the state in their URLs, and their code, which is loaded when a page is opened first. */
import type { Component } from 'svelte';

import { choice, field, flag, list, number, optionalNumber, text, type Schema, type State } from './url.ts';

const X_AXES = ['step', 'relative', 'time'] as const;
export type XAxis = (typeof X_AXES)[number];

export const RUN_TABS = [
  'metrics',
  'params',
  'media',
  'terminal',
  'logs',
  'artifacts',
  'system',
  'environment',
  'overview',
] as const;
/** The lowest level of log records to show. */
export const LOG_LEVELS = ['all', 'info', 'warning', 'error'] as const;

const SORT_DEFAULT = '-created';

const query = field(text, '');

/** The state of a page of charts. */
const charts = {
  /** Search for metrics. */
  m: field(text, ''),
  x: field(choice(...X_AXES), 'step'),
  /** Weight of the past in the smoothed line. */
  smooth: field(number, 0),
  logx: field(flag, false),
  logy: field(flag, false),
  from: field(optionalNumber, undefined as number | undefined),
  to: field(optionalNumber, undefined as number | undefined),
} satisfies Schema;

const GROUPINGS = ['run', 'step', 'index', 'context'] as const;
export type MediaGrouping = (typeof GROUPINGS)[number];

/** The state of a page of media. */
const media = {
  kind: field(choice('images', 'audio', 'texts', 'distributions'), 'images'),
  group: field(choice(...GROUPINGS), 'run'),
  /** Step of the slider; absent: the last one. */
  at: field(optionalNumber, undefined as number | undefined),
  /** One slider for each sequence. */
  each: field(flag, false),
  /** Width of a card in pixels. */
  size: field(number, 160),
} satisfies Schema;

export type MediaState = State<typeof media>;

export type ChartsState = State<typeof charts>;

export const schemas = {
  runs: {
    q: query,
    /** A column, with a minus for descending order. */
    sort: field(text, SORT_DEFAULT),
    /** Columns after the name, such as `created`, `param:hparams.lr` and `metric:loss`; empty: chosen from the data. */
    columns: field(list(text), [] as string[]),
    /** Columns that stay at the left. */
    left: field(list(text), [] as string[]),
    /** Widths in pixels, such as `created=120`. */
    widths: field(list(text), [] as string[]),
    /** Hides columns whose values are all equal. */
    differ: field(flag, false),
    /** Ids of runs that stay on top. */
    pins: field(list(text), [] as string[]),
    /** Id of the run that the others are compared with. */
    baseline: field(text, ''),
  },
  run: {
    tab: field(choice(...RUN_TABS), 'metrics'),
    level: field(choice(...LOG_LEVELS), 'all'),
    /** Path of the artifact to preview. */
    file: field(text, ''),
    ...charts,
    ...media,
  },
  metrics: { q: query, ...charts },
  media: { q: query, ...media },
  compare: {
    tab: field(choice('values', 'charts'), 'values'),
    /** Ids of the runs, in the order of the columns. */
    runs: field(list(text), [] as string[]),
    /** Also show values that are equal in all runs. */
    all: field(flag, false),
    ...charts,
  },
  list: { q: query },
  home: {},
} satisfies Record<string, Schema>;

export interface Route {
  name: string;
  title: string;
  path: string;
  schema: Schema;
  load: () => Promise<{ default: Component }>;
  /** Key that opens the page after `g`. */
  key?: string;
}

const entities = (): Promise<{ default: Component }> => import('../pages/Entities.svelte');

/** In the order of the navigation; pages without a key are not part of it. */
export const routes: readonly Route[] = [
  {
    name: 'home',
    title: 'Home',
    path: '/home',
    schema: schemas.home,
    load: () => import('../pages/Home.svelte'),
    key: 'h',
  },
  {
    name: 'runs',
    title: 'Runs',
    path: '/runs',
    schema: schemas.runs,
    load: () => import('../pages/Runs.svelte'),
    key: 'r',
  },
  {
    name: 'metrics',
    title: 'Metrics',
    path: '/metrics',
    schema: schemas.metrics,
    load: () => import('../pages/Metrics.svelte'),
    key: 'm',
  },
  {
    name: 'media',
    title: 'Media',
    path: '/media',
    schema: schemas.media,
    load: () => import('../pages/Media.svelte'),
    key: 'i',
  },
  {
    name: 'compare',
    title: 'Compare',
    path: '/compare',
    schema: schemas.compare,
    load: () => import('../pages/Compare.svelte'),
    key: 'c',
  },
  {
    name: 'experiments',
    title: 'Experiments',
    path: '/experiments',
    schema: schemas.list,
    load: entities,
    key: 'e',
  },
  { name: 'tags', title: 'Tags', path: '/tags', schema: schemas.list, load: entities, key: 't' },
  {
    name: 'dashboards',
    title: 'Dashboards',
    path: '/dashboards',
    schema: schemas.list,
    load: entities,
    key: 'd',
  },
  { name: 'reports', title: 'Reports', path: '/reports', schema: schemas.list, load: entities, key: 'o' },
  {
    name: 'run',
    title: 'Run',
    path: '/runs/:run',
    schema: schemas.run,
    load: () => import('../pages/Run.svelte'),
  },
];
