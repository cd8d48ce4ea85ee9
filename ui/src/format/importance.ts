/** The meaning of a metric by its name, which is a guess. */

const LOSSES =
  /(^|_)(loss|error|err|perplexity|ppl|wer|cer|eer|r?mse|s?mape|mae|fid|fvd|kid|lpips|nll|bpb|regret)(_|$)/;
const SCORES =
  /(^|_)(acc|accuracy|f|f1|auc|auroc|map|bleu|rouge|reward|return|score|r2|m?iou|dice|precision|recall|success|win_rate|psnr|ssim|ndcg|mrr|mcc)(_|$)/;
/** Names of tasks that a model is tested with. */
const BENCHMARKS =
  /(^|_)(mmlu|gsm_8k|hellaswag|humaneval|human_eval|mbpp|truthfulqa|winogrande|boolq|piqa|gpqa|exact_match|pass_1)(_|$)/;
/** Names of values that tell runs apart, and that no one would tune. */
const IDS =
  /(^|_)(ids?|uid|uuid|guid|hash|sha(_\d+)?|commit|checksum|seeds?|random_state|pid|port|timestamp|datetime)(_|$)/;
/** First words of the names of what a machine does during training. */
const MACHINE = /^_*(system|sys|machine|hardware|gpu|cpu|nvidia|disk|network|memory)(_|$)/;
/** Groups of params in which clients of other trackers keep results, and what only they read. */
const KEPT_BY_CLIENTS = ['summary', 'wandb', 'mlflow', 'optuna', 'tensorboard'];
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
  return LOSSES.test(text) || (SCORES.test(text) || BENCHMARKS.test(text) ? false : undefined);
}

/** Whether a metric is the score of one of the usual benchmarks, of which runs often have many. */
export function isBenchmark(name: string): boolean {
  return BENCHMARKS.test(wordsOf(name));
}

/** Whether a metric is of data that was held out from training. */
export function isHeldOut(name: string, context: string): boolean {
  return HELD_OUT.test(wordsOf(`${name} ${context}`));
}

/** Whether a param is an id, a hash or a seed, by its name. */
export function isId(name: string): boolean {
  return IDS.test(wordsOf(name));
}

/** Whether a param was not chosen before the run but kept by a client, so that it explains no result. */
export function isKeptByClient(segments: readonly string[]): boolean {
  return segments.length > 1 && KEPT_BY_CLIENTS.includes(segments[0] ?? '');
}

/** Whether a metric is about the machine instead of the training. */
export function isOfMachine(name: string): boolean {
  return MACHINE.test(wordsOf(name));
}
