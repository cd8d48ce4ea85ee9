/** What the name of a metric says about it, which is a guess. */

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
export function guessIsLower(name: string): boolean | undefined {
  const text = wordsOf(name);
  return LOSSES.test(text) || (SCORES.test(text) ? false : undefined);
}

/** Whether a metric is of data that was held out from training. */
export function isHeldOut(name: string, context: string): boolean {
  return HELD_OUT.test(wordsOf(`${name} ${context}`));
}
