/** Active runs from which nothing has come for some minutes, and how far the others are. */
import { isMap, type CborValue } from '../api/cbor.ts';
import type { Props, SeriesInfo } from '../gen/matyan/runs/v1/run_pb.ts';
import { PROGRESS_PARAMS } from './system_params.ts';
import { MINUTE, milliseconds } from './time.ts';

/** Many scripts log an epoch at a time. */
const SILENT_MS = 5 * MINUTE;

/**
 * How long an active run has sent nothing, by the clock of the server; undefined for a shorter time
 * than some minutes, and if it is not known.
 */
export function silentMs(
  { active, lastDataUs }: Pick<Props, 'active' | 'lastDataUs'>,
  serverNow: number | undefined,
): number | undefined {
  if (!active || lastDataUs === undefined || serverNow === undefined) return undefined;
  const age = serverNow - milliseconds(lastDataUs);
  return age < SILENT_MS ? undefined : age;
}

/** The param in which a run has the number of its steps. */
export const TOTAL_STEPS = [PROGRESS_PARAMS, 'total_steps'];

/**
 * How far a run is, from 0 to 1, by the highest step of some of its metrics. Undefined if it has not
 * reported how many steps there are.
 */
export function progressOf(
  params: CborValue,
  series: readonly Pick<SeriesInfo, 'lastStep' | 'count'>[],
): number | undefined {
  const own = isMap(params) ? params[PROGRESS_PARAMS] : undefined;
  const total = Number(isMap(own) ? (own.total_steps ?? NaN) : NaN);
  const steps = series.filter(({ count }) => count > 0n).map(({ lastStep }) => Number(lastStep));
  if (!(total > 0) || steps.length === 0) return undefined;
  // Steps count from zero.
  return Math.min(Math.max((Math.max(...steps) + 1) / total, 0), 1);
}
