/** Addresses that the clients of other trackers print, and the pages here that show the same. */
import { experimentCondition } from '../query/conditions.ts';
import { routes, type PageName } from './routes.ts';
import { matchPath } from './url.ts';

export interface PrintedPage {
  name: PageName;
  params: Record<string, string>;
  /** The search of a table of runs; empty: none. */
  query: string;
}

/**
 * The page for an address below this server that a client of W&B or MLflow has printed; undefined
 * for other addresses. `path` has to be the path of no page.
 */
export function printedPage(path: string): PrintedPage | undefined {
  if (matchPath('/authorize', path)) return { name: 'access', params: {}, query: '' };
  const project = matchPath('/:entity/:project', path);
  const isOwn = routes.some(route => route.path.split('/')[1] === project?.entity);
  if (!project?.project || isOwn) return undefined;
  return { name: 'runs', params: {}, query: experimentCondition(project.project) };
}

/** The page for the fragment of an address that a client of MLflow has printed. */
export function pageOfFragment(fragment: string): PrintedPage | undefined {
  const run = matchPath('#/experiments/:experiment/runs/:run', fragment)?.run;
  if (run) return { name: 'run', params: { run }, query: '' };
  const isExperiment = matchPath('#/experiments/:experiment', fragment) !== undefined;
  return isExperiment ? { name: 'experiments', params: {}, query: '' } : undefined;
}
