/** The status of a run, by which runs are grouped and found. */
import { OutcomeKind } from '../gen/matyan/common/v1/common_pb.ts';
import type { Props } from '../gen/matyan/runs/v1/run_pb.ts';

/**
 * The status in the words of the server: `active`, or the outcome. Undefined: the run has ended
 * without an outcome.
 */
export function statusText({
  active,
  outcome,
}: Pick<Props, 'active' | 'outcome'>): string | undefined {
  const kind = outcome?.kind ?? OutcomeKind.UNSPECIFIED;
  if (active) return 'active';
  return kind === OutcomeKind.UNSPECIFIED ? undefined : OutcomeKind[kind]?.toLowerCase();
}
