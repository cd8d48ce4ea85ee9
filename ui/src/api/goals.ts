/** Goals of metrics, which the server keeps for all readers of the project. */
import {
  GoalDirection,
  GoalSummary,
  MetricService,
  NumberFormat,
  type Goal,
} from '../gen/matyan/metrics/v1/metrics_pb.ts';
import type { MetricGoal } from '../format/goals.svelte.ts';
import { unary } from './transport.ts';

const { method } = MetricService;

/** The fields that a reader changes. An absent field stays, and an undefined field is forgotten. */
export interface GoalChange {
  isLower?: boolean | undefined;
  isBest?: boolean | undefined;
  format?: MetricGoal['format'];
  unit?: string;
  xAxis?: string;
  isPrimary?: boolean;
}

const FORMATS = {
  percent: NumberFormat.PERCENT,
  scientific: NumberFormat.SCIENTIFIC,
  integer: NumberFormat.INTEGER,
} as const;
type FormatName = keyof typeof FORMATS;
const FORMAT_NAMES = new Map(
  Object.entries(FORMATS).map(([name, number]): [NumberFormat, FormatName] => [
    number,
    name as FormatName,
  ]),
);

function goalOf({
  name,
  direction,
  summary,
  format,
  unit,
  xAxis,
  primary: isPrimary,
  updatedUs,
}: Goal): MetricGoal {
  const isKnown = direction !== GoalDirection.UNSPECIFIED;
  const isSummed = summary !== GoalSummary.UNSPECIFIED;
  return {
    name,
    unit,
    xAxis,
    isPrimary,
    updatedUs,
    isLower: isKnown ? direction === GoalDirection.LOWER : undefined,
    isBest: isSummed ? summary === GoalSummary.BEST : undefined,
    format: FORMAT_NAMES.get(format),
  };
}

export async function readGoals(signal?: AbortSignal): Promise<MetricGoal[]> {
  return (await unary(method.listGoals, {}, signal)).goals.map(goalOf);
}

/** The goal and the primary metric as they were read. */
export interface GoalCondition {
  ifUpdatedUs: bigint;
  /** Empty: there was none. */
  ifPrimary: string;
}

/** Fails if someone else has changed the goal or the choice of the primary metric in the meantime. */
export async function updateGoal(
  name: string,
  change: GoalChange,
  { ifUpdatedUs, ifPrimary }: GoalCondition,
): Promise<MetricGoal | undefined> {
  const { isLower, isBest, format, unit, xAxis, isPrimary } = change;
  const { goal } = await unary(method.updateGoal, {
    name,
    ...('isLower' in change && { direction: directionOf(isLower) }),
    ...('isBest' in change && { summary: summaryOf(isBest) }),
    ...('format' in change && { format: format ? FORMATS[format] : NumberFormat.UNSPECIFIED }),
    ...(unit !== undefined && { unit }),
    ...(xAxis !== undefined && { xAxis }),
    ...(isPrimary !== undefined && { primary: isPrimary, ifPrimary }),
    ifUpdatedUs,
  });
  return goal && goalOf(goal);
}

function directionOf(isLower: boolean | undefined): GoalDirection {
  if (isLower === undefined) return GoalDirection.UNSPECIFIED;
  return isLower ? GoalDirection.LOWER : GoalDirection.HIGHER;
}

function summaryOf(isBest: boolean | undefined): GoalSummary {
  if (isBest === undefined) return GoalSummary.UNSPECIFIED;
  return isBest ? GoalSummary.BEST : GoalSummary.LAST;
}
