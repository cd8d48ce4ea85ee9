/** The goals of the project's metrics: read with each page, and changed by readers. */
import { readGoals, updateGoal, type GoalChange } from '../api/goals.ts';
import { goalOf, setGoals, statedGoals } from '../format/goals.svelte.ts';

let reading: Promise<void> | undefined;
/** Number of changes by this page. An answer from before a change must not replace it. */
let changes = 0;

async function readAll(): Promise<void> {
  const before = changes;
  const goals = await readGoals();
  if (before === changes) setGoals(goals);
}

export const goals = {
  /** Reads the goals, which others may have changed. */
  read(): Promise<void> {
    reading ??= readAll().finally(() => (reading = undefined));
    return reading;
  },
  /**
   * Ends when the read that is under way has ended. Names are guesses until then, and stay so if it
   * fails: the goals of a page are no reason not to show it.
   */
  async settled(): Promise<void> {
    await reading?.catch(() => {});
  },
  /** Another primary metric stops to be it, without a change of its own. */
  async update(name: string, change: GoalChange): Promise<void> {
    try {
      const known = [...statedGoals().values()];
      const next = await updateGoal(name, change, {
        ifUpdatedUs: goalOf(name)?.updatedUs ?? 0n,
        ifPrimary: known.find(goal => goal.isPrimary)?.name ?? '',
      });
      changes += 1;
      const others = [...statedGoals().values()].filter(goal => goal.name !== name);
      const isMoved = next?.isPrimary === true;
      setGoals([
        ...others.map(goal => (isMoved ? { ...goal, isPrimary: false } : goal)).filter(isKept),
        ...(next && isKept(next) ? [next] : []),
      ]);
    } catch (error) {
      // The goal of somebody else is shown next to the failure.
      await goals.read().catch(() => {});
      throw error;
    }
  },
};

/** The server forgets a goal for which nothing is stated. */
function isKept(goal: ReturnType<typeof goalOf>): boolean {
  if (!goal) return false;
  const { isLower, isBest, format, unit, xAxis, isPrimary } = goal;
  return (
    isPrimary ||
    unit !== '' ||
    xAxis !== '' ||
    [isLower, isBest, format].some(one => one !== undefined)
  );
}
