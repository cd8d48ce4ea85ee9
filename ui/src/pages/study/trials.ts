/** The trials of a study on its page. */
import {
  Direction,
  TrialState,
  type Study,
  type Trial,
  type TrialParam,
} from '../../gen/matyan/studies/v1/studies_pb.ts';

export const STATE_NAMES: Record<TrialState, string> = {
  [TrialState.UNSPECIFIED]: 'unknown',
  [TrialState.WAITING]: 'waiting',
  [TrialState.RUNNING]: 'running',
  [TrialState.COMPLETE]: 'complete',
  [TrialState.PRUNED]: 'pruned',
  [TrialState.FAILED]: 'failed',
};

/** Trials that are compared with each other to find the best of several objectives. */
const MAX_COMPARED = 2_000;

export function isFinished({ state }: Trial): boolean {
  return state !== TrialState.WAITING && state !== TrialState.RUNNING;
}

/** The number of trials in each state that some are in, in the order of the states. */
export function stateCounts(trials: readonly Trial[]): [name: string, count: number][] {
  const states = [
    TrialState.COMPLETE,
    TrialState.RUNNING,
    TrialState.WAITING,
    TrialState.PRUNED,
    TrialState.FAILED,
  ];
  const counts = states.map((state): [string, number] => [
    STATE_NAMES[state],
    trials.filter(trial => trial.state === state).length,
  ]);
  return counts.filter(([, count]) => count > 0);
}

/** The values of a complete trial so that smaller ones are better. */
function costs({ directions }: Study, { values }: Trial): number[] {
  return values.map((value, at) => (directions[at] === Direction.MAXIMIZE ? -value : value));
}

function isComplete(trial: Trial): boolean {
  return trial.state === TrialState.COMPLETE && trial.values.length > 0;
}

/** Whether one is at least as good as the other in every objective, and better in one. */
function dominates(one: readonly number[], other: readonly number[]): boolean {
  let isBetter = false;
  for (const [at, cost] of one.entries()) {
    const against = other[at] ?? NaN;
    if (!(cost <= against)) return false;
    isBetter ||= cost < against;
  }
  return isBetter;
}

/**
 * Numbers of the best trials: one, or with several objectives all that no other beats in each of
 * them. Empty if there are too many to compare.
 */
export function bestTrials(study: Study, trials: readonly Trial[]): Set<number> {
  const complete = trials.filter(isComplete);
  if (study.directions.length === 1) {
    const best = sortedTrials(study, complete)[0];
    return new Set(best && [best.number]);
  }
  if (complete.length > MAX_COMPARED) return new Set();
  const compared = complete.map(trial => ({ number: trial.number, cost: costs(study, trial) }));
  const front = compared.filter(({ cost }) => !compared.some(other => dominates(other.cost, cost)));
  return new Set(front.map(({ number }) => number));
}

/** Complete trials first, the best of the first objective on top; then the others, newest first. */
export function sortedTrials(study: Study, trials: readonly Trial[]): Trial[] {
  const rank = (trial: Trial): number => {
    const cost = isComplete(trial) ? (costs(study, trial)[0] ?? NaN) : NaN;
    return Number.isNaN(cost) ? Infinity : cost;
  };
  const ranked = trials.map(trial => ({ trial, rank: rank(trial), isLast: !isComplete(trial) }));
  ranked.sort((one, other) => {
    if (one.isLast !== other.isLast) return one.isLast ? 1 : -1;
    if (one.isLast) return other.trial.number - one.trial.number;
    // Of equal values the earlier trial is the best one, as for the sampler.
    if (one.rank === other.rank) return one.trial.number - other.trial.number;
    return one.rank < other.rank ? -1 : 1;
  });
  return ranked.map(({ trial }) => trial);
}

/** Names of the first `limit` params of a study, in the order in which trials set them. */
export function paramNames(trials: readonly Trial[], limit: number): string[] {
  const names = new Set<string>();
  for (const { params } of trials) {
    for (const { name } of params) {
      names.add(name);
      if (names.size >= limit) return [...names];
    }
  }
  return [...names];
}

/** The value of a param: a sampler represents a category by its index. */
export function paramValue({ value, distribution }: TrialParam): number | string {
  if (!distribution.includes('"CategoricalDistribution"')) return value;
  try {
    const { attributes } = JSON.parse(distribution) as { attributes?: { choices?: unknown[] } };
    const choice = attributes?.choices?.[value];
    if (typeof choice === 'number' || typeof choice === 'string') return choice;
    return choice === undefined ? value : JSON.stringify(choice);
  } catch {
    // Python writes numbers that JSON does not have.
    return value;
  }
}
