/** The code of every page, which the browser loads when the page is first opened. */
import type { Component } from 'svelte';

import type { PageName } from './state/routes.ts';

type Load = () => Promise<{ default: Component }>;

const entities: Load = () => import('./pages/Entities.svelte');

export const pages: Record<PageName, Load> = {
  home: () => import('./pages/Home.svelte'),
  runs: () => import('./pages/Runs.svelte'),
  metrics: () => import('./pages/Metrics.svelte'),
  params: () => import('./pages/ParamsExplorer.svelte'),
  media: () => import('./pages/Media.svelte'),
  compare: () => import('./pages/Compare.svelte'),
  experiments: entities,
  tags: entities,
  dashboards: entities,
  reports: entities,
  dashboard: () => import('./pages/Dashboard.svelte'),
  report: () => import('./pages/Report.svelte'),
  project: () => import('./pages/Project.svelte'),
  bin: () => import('./pages/Bin.svelte'),
  access: () => import('./pages/Access.svelte'),
  audit: () => import('./pages/Audit.svelte'),
  study: () => import('./pages/Study.svelte'),
  run: () => import('./pages/Run.svelte'),
};
