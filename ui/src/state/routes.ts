/** All pages: their paths, and the state in their URLs. `pages.ts` loads their code. */
import { choice, day, field, flag, list, number, text, type Schema, type State } from './url.ts';

/** `auto` is the axis that is stated for the metric of a chart, and steps without such an axis. */
export const X_AXES = ['auto', 'step', 'relative', 'time', 'epoch', 'metric'] as const;
export type XAxis = (typeof X_AXES)[number];
export type PlacedAxis = Exclude<XAxis, 'auto'>;

/** `auto` is thin where a chart has many lines. */
export const LINE_WIDTHS = ['auto', 'thin', 'medium', 'thick'] as const;

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
/** Orders of the list of runs next to charts. */
export const RUN_ORDERS = ['newest', 'name', 'lowest', 'highest'] as const;
/** Chosen runs that are compared: more columns would not be compared by eye. */
export const MAX_COMPARED = 100;
/** The lowest level of log records to show. */
export const LOG_LEVELS = ['all', 'info', 'warning', 'error'] as const;

/**
 * The state of the workspace instead of a page: the runs that are looked at, and how they look.
 * Links carry it from page to page.
 */
export const scope = {
  /** Id of the view that is open; empty: none. */
  named: field(text, ''),
  q: field(text, ''),
  /** Ids of runs that charts leave out; or, if there are any, of the only runs that charts show. */
  hide: field(list, [] as string[]),
  only: field(list, [] as string[]),
  /** Colors that the reader chose, such as `run=3`, by their place in the palette. */
  colors: field(list, [] as string[]),
  /** Id of the run to which the others are compared. */
  baseline: field(text, ''),
  /** Columns by which runs are grouped; the first gives lines their colors. */
  by: field(list, [] as string[]),
} satisfies Schema;

export type Scope = State<typeof scope>;

const charts = {
  m: field(text, ''),
  x: field(choice(...X_AXES), 'auto'),
  /** The metric that is the x axis, if `x` says so. */
  xm: field(text, ''),
  /**
   * Weight of the past in the smoothed line: per point, or per 1/200 of the steps of a long series.
   */
  smooth: field(number, 0),
  logx: field(flag, false),
  logy: field(flag, false),
  /** The y axis ignores values far from all others. */
  calm: field(flag, false),
  line: field(choice(...LINE_WIDTHS), 'auto'),
  /** Columns, such as `experiment` or `param:lr`, that decide the dashes and the chart of a run. */
  stroke: field(text, ''),
  chart: field(text, ''),
  /** Whether the runs of one color are one line with a band, or a line each. */
  center: field(choice('mean', 'median', 'each'), 'mean'),
  band: field(choice('extremes', 'deviation', 'confidence', 'none'), 'extremes'),
  from: field<number | undefined>(number, undefined),
  to: field<number | undefined>(number, undefined),
  /** Ends of the y axis; absent: the ends of the data. */
  low: field<number | undefined>(number, undefined),
  high: field<number | undefined>(number, undefined),
  /** Charts with their own settings, as `parts/own_charts.ts` writes them. */
  own: field(list, [] as string[]),
  /** The part of names by which charts are in sections. */
  sections: field(choice('first', 'last', 'none'), 'first'),
  /** Whether sections are closed at first; `auto`: if there are many. */
  fold: field(choice('auto', 'closed', 'open'), 'auto'),
  /** Titles of the sections that are not as they were at first. */
  closed: field(list, [] as string[]),
} satisfies Schema;

export const MEDIA_KINDS = [
  'images',
  'audio',
  'texts',
  'distributions',
  'figures',
  'pages',
  'points',
] as const;
const GROUPINGS = ['run', 'step', 'index', 'name', 'context'] as const;
export type MediaGrouping = (typeof GROUPINGS)[number];

const media = {
  kind: field(choice(...MEDIA_KINDS), 'images'),
  group: field(choice(...GROUPINGS), 'run'),
  /** Step of the slider; absent: the last step. */
  at: field<number | undefined>(number, undefined),
  each: field(flag, false),
  /** The steps to show, if not all of them, and whether all objects of each are shown. */
  since: field<number | undefined>(number, undefined),
  until: field<number | undefined>(number, undefined),
  whole: field(flag, false),
  /** Number of the newest runs with objects. More rows are not compared by eye. */
  most: field(number, 12),
  size: field(number, 160),
  /** Distributions show one step, or all of them. */
  shape: field(choice('bars', 'heat', 'ridges'), 'bars'),
  /** Ids of the image that is shown large, and of the image next to it. */
  img: field(text, ''),
  vs: field(text, ''),
  ab: field(choice('side', 'slider'), 'side'),
} satisfies Schema;

export type MediaState = State<typeof media>;

export type ChartsState = State<typeof charts> & Pick<Scope, 'by'>;

export const schemas = {
  runs: {
    ...scope,
    /** Columns, with a minus for descending order; the most significant column first. */
    sort: field(list, ['-created']),
    /** Tokens of the groups that are open. */
    open: field(list, [] as string[]),
    /**
     * Columns after the name, such as `created`, `param:hparams.lr` and `metric:loss`; empty:
     * chosen from the data.
     */
    columns: field(list, [] as string[]),
    left: field(list, [] as string[]),
    /** Widths in pixels, such as `created=120`. */
    widths: field(list, [] as string[]),
    differ: field(flag, false),
    pins: field(list, [] as string[]),
  },
  run: {
    ...scope,
    tab: field(choice(...RUN_TABS), 'metrics'),
    level: field(choice(...LOG_LEVELS), 'all'),
    diff: field(text, ''),
    file: field(text, ''),
    /**
     * The table next to the open table: the id of its run and its path, and the key of the join.
     */
    other: field(text, ''),
    key: field(text, ''),
    ...charts,
    ...media,
  },
  metrics: {
    ...scope,
    /** Number of the newest runs that are shown. */
    limit: field(choice(...RUN_LIMITS), '50'),
    list: field(flag, true),
    /** The metric whose last value the list of runs shows; empty: the most important metric. */
    value: field(text, ''),
    /** The order of the list of runs. */
    order: field(choice(...RUN_ORDERS), 'newest'),
    ...charts,
  },
  media: { ...scope, ...media },
  params: {
    ...scope,
    /** The metric that gives lines their color; empty: the first metric. */
    metric: field(text, ''),
    /** Columns, as in the table of runs; empty: chosen from the data. */
    axes: field(list, [] as string[]),
    /** Ranges of axes, such as `param:lr=0.001..0.1`. */
    brush: field(list, [] as string[]),
    /**
     * Ranges with the ends of axes; and axes that are logarithmic or linear, such as
     * `param:lr=log`.
     */
    limits: field(list, [] as string[]),
    scales: field(list, [] as string[]),
    view: field(choice('parallel', 'scatter'), 'parallel'),
    /** Whether the axes of metrics reach to outliers, and whether they are logarithmic. */
    outliers: field(flag, false),
    log: field(flag, false),
    /**
     * Columns of the scatter plot; empty: the strongest dependence of the metric, and the metric.
     */
    sx: field(text, ''),
    sy: field(text, ''),
  },
  compare: {
    tab: field(choice('values', 'charts'), 'values'),
    ...scope,
    /** Ids of the compared runs; empty: the newest runs of the query. */
    runs: field(list, [] as string[]),
    all: field(flag, false),
    /**
     * Id of the row whose best value comes first; empty: runs have the order in which they were
     * chosen or found.
     */
    sort: field(text, ''),
    ...charts,
  },
  list: { find: field(text, '') },
  audit: {
    principal: field(text, ''),
    /** Parts of the name of a call, and of what the call was about. */
    call: field(text, ''),
    about: field(text, ''),
    failed: field(flag, false),
    /** The first and the last day. */
    from: field(day, ''),
    to: field(day, ''),
    /** Whether the entries of all projects and of the server are wanted. */
    everywhere: field(flag, false),
  },
  document: { edit: field(flag, false) },
} satisfies Record<string, Schema>;

/** The open table is shown alone. */
export const NO_OTHER = { other: '', key: '' };

export type PageName =
  | 'home'
  | 'runs'
  | 'metrics'
  | 'params'
  | 'media'
  | 'compare'
  | 'experiments'
  | 'tags'
  | 'dashboards'
  | 'reports'
  | 'dashboard'
  | 'report'
  | 'project'
  | 'bin'
  | 'access'
  | 'audit'
  | 'study'
  | 'run';

export interface Route {
  name: PageName;
  title: string;
  path: string;
  /** Key that opens the page after `g`; empty: none. */
  key: string;
}

function route(name: PageName, title: string, key: string, path = `/${name}`): Route {
  return { name, title, path, key };
}

/** In the order of the navigation; pages without a key are not part of it. */
export const routes: readonly Route[] = [
  route('home', 'Home', 'h'),
  route('runs', 'Runs', 'r'),
  route('metrics', 'Metrics', 'm'),
  route('params', 'Params', 'p'),
  route('media', 'Media', 'i'),
  route('compare', 'Compare', 'c'),
  route('experiments', 'Experiments', 'e'),
  route('tags', 'Tags', 't'),
  route('dashboards', 'Dashboards', 'd'),
  route('reports', 'Reports', 'o'),
  route('dashboard', 'Dashboard', '', '/dashboards/:document'),
  route('report', 'Report', '', '/reports/:document'),
  route('project', 'Project', ''),
  route('bin', 'Bin', ''),
  route('access', 'Access', ''),
  route('audit', 'Audit log', '', '/access/audit'),
  route('study', 'Study', '', '/studies/:study'),
  route('run', 'Run', '', '/runs/:run'),
];

/** Pages whose state is a part of named views. */
export const VIEW_PAGES: readonly PageName[] = ['runs', 'metrics', 'params', 'media', 'compare'];

/** Pages of Aim, which users have bookmarked, and the kind of media that shows the same. */
export const MOVED: { [page: string]: MediaState['kind'] } = {
  ...{ images: 'images', audios: 'audio', text: 'texts', texts: 'texts' },
  ...{ distributions: 'distributions', figures: 'figures' },
};
