/**
 * The importance of a metric, guessed from its name: results come before everything else, held-out
 * data before training.
 */

const LOSSES = /(^|_)(loss|error|err|perplexity|ppl|wer|cer|r?mse|mae|fid|nll|regret)(_|$)/;
const SCORES =
  /(^|_)(acc|accuracy|f|f1|auc|auroc|map|bleu|rouge|reward|return|score|r2|iou|dice|precision|recall|success)(_|$)/;
const HELD_OUT = /(^|_)(val|valid|validation|test|eval|evaluation|dev)(_|$)/;

/** `valLoss` and `val/loss@5` as `val_loss` and `val_loss_5`. */
export function wordsOf(text: string): string {
  return text
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .replace(/[^a-z0-9]+|(?<=[a-z]{2})(?=\d)/g, '_');
}

/** Whether lower values of a metric are better; undefined if its name does not say. */
export function isLowerBetter(name: string): boolean | undefined {
  const text = wordsOf(name);
  return LOSSES.test(text) || (SCORES.test(text) ? false : undefined);
}

/** The most important metric first. */
export function byImportance<T extends { name: string; context: string }>(
  series: readonly T[],
): T[] {
  const rank = ({ name, context }: T): number => importance(name, context);
  return series.toSorted((a, b) => rank(b) - rank(a));
}

/** The higher, the earlier a metric is shown. */
export function importance(name: string, context = ''): number {
  const isNested = name.includes('/') ? 0 : 1;
  if (isLowerBetter(name) === undefined) return isNested;
  return HELD_OUT.test(wordsOf(`${name} ${context}`)) ? 3 : 2;
}
