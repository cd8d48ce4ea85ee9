/** Which parts of a run have anything in them, so that its page has no tabs that lead to nothing. */
import { published } from '../../api/published.ts';
import { readLines, readRecords } from '../../api/logs.ts';
import { Urgency } from '../../api/read_queue.ts';
import { readRun } from '../../api/runs.ts';
import { isSystemMetric } from '../../format/context.ts';
import { SeriesType } from '../../gen/matyan/common/v1/common_pb.ts';
import type { Run } from '../../gen/matyan/runs/v1/run_pb.ts';
import type { RUN_TABS } from '../../state/routes.ts';

export type RunTab = (typeof RUN_TABS)[number];

/** Name of the artifact with the changes since the last commit, which the client uploads at the start of a run. */
export const GIT_DIFF = 'git-diff.patch';
/** Most metrics that are read. In the order of names, metrics of the machine come early. */
const MAX_METRICS = 300;
const OBJECTS = [
  SeriesType.IMAGES,
  SeriesType.AUDIOS,
  SeriesType.TEXTS,
  SeriesType.DISTRIBUTIONS,
  SeriesType.FIGURES,
  SeriesType.HTMLS,
  SeriesType.POINT_CLOUDS,
];

/**
 * The tabs of a run that have nothing in them. What is in the tab that is open, and in params and environment, is known
 * from elsewhere.
 */
export async function emptyTabs(
  runId: string,
  open: RunTab,
  signal: AbortSignal,
): Promise<RunTab[]> {
  if (published) return (await import('../../published/transport.ts')).emptyTabs();
  const first = { seriesTypes: [SeriesType.METRIC], seriesLimit: MAX_METRICS, artifacts: true };
  const [run, objects, lines, records] = await Promise.all([
    readRun(runId, first, signal),
    readRun(runId, { seriesTypes: OBJECTS, seriesLimit: 1 }, signal),
    open === 'terminal' ? undefined : readLines(runId, { tail: 1 }, Urgency.Visible, signal),
    open === 'logs' ? undefined : readRecords(runId, { tail: 1 }, Urgency.Visible, signal),
  ]);
  return emptyOf(run, {
    hasObjects: objects.seriesCount > 0,
    hasLines: lines === undefined || lines.lastStep >= 0,
    hasRecords: records === undefined || records.count > 0,
  });
}

interface Others {
  hasObjects: boolean;
  hasLines: boolean;
  hasRecords: boolean;
}

/**
 * The tabs without content. Unknown content, such as the names of more metrics than were read,
 * counts as content.
 */
export function emptyOf(
  {
    series,
    seriesCount,
    artifacts,
    moreArtifacts,
  }: Pick<Run, 'series' | 'seriesCount' | 'artifacts' | 'moreArtifacts'>,
  { hasObjects, hasLines, hasRecords }: Others,
): RunTab[] {
  const isPart = seriesCount > series.length;
  const ofMachine = series.filter(({ name }) => isSystemMetric(name)).length;
  const has: Partial<Record<RunTab, boolean>> = {
    metrics: isPart || ofMachine < series.length,
    system: isPart || ofMachine > 0,
    media: hasObjects,
    terminal: hasLines,
    logs: hasRecords,
    artifacts: artifacts.length > 0,
    changes: moreArtifacts || artifacts.some(({ path }) => path === GIT_DIFF),
  };
  return (Object.keys(has) as RunTab[]).filter(tab => !has[tab]);
}
