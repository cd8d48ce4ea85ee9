/** What a query lacks at the cursor: a name, a member, a metric or a value. A few patterns suffice; nothing is parsed. */
export type Wanted =
  /** The begin of an expression, such as `lo`. */
  | { kind: 'name' }
  /** After a dot: `run.hpa`. `path` is what comes before it, such as `['run', 'hparams']`. */
  | { kind: 'member'; path: string[] }
  /** A member of a metric: `run.metrics["loss"].la`. */
  | { kind: 'metric member' }
  /** The name of a metric: `run.metrics["lo`. */
  | { kind: 'metric' }
  /** A value to compare with: `run.hparams.optimizer == "ad`. */
  | { kind: 'value'; path: string[] }
  /** A text that may be that of a tag: `"be`. */
  | { kind: 'tag' };

export interface Place {
  wanted: Wanted;
  /** What was typed of it so far, without quotes. */
  typed: string;
  /** The part of the query that a completion replaces. */
  from: number;
  to: number;
}

const ITEM = String.raw`\[\s*(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*\]`;
/** `run.hparams.lr`, `run["learning rate"]`, `metric.context.subset`. */
const PATH = String.raw`\b(?:run|metric|images|texts|audios|distributions|figures)(?:\.\w+|${ITEM})*`;
const COMPARED = new RegExp(String.raw`(${PATH})\s*(?:[=!]=|[<>]=?)\s*$`);
const LISTED = new RegExp(String.raw`(${PATH})\s+(?:not\s+)?in\s*[[({][^\])}]*$`);
const MEMBER = new RegExp(String.raw`(${PATH})\.$`);
const METRIC = /\brun\.metrics\s*\[\s*$/;
const METRIC_MEMBER = /\brun\.metrics\s*\[[^\]]*\]\.$/;
const BEGIN = /(?:^|[(,]|\b(?:and|or|not|if|else))\s*$/;

export function placeAt(text: string, caret: number): Place | undefined {
  const before = text.slice(0, caret);
  const open = openText(before);
  if (open !== undefined) {
    const wanted = wantedText(before.slice(0, open));
    const after = text.slice(caret);
    const quote = after[0] === before[open] ? 1 : 0;
    // The completion of a metric has a bracket at its end.
    const bracket = wanted?.kind === 'metric' && after[quote] === ']' ? 1 : 0;
    const to = caret + quote + bracket;
    return wanted && { wanted, typed: before.slice(open + 1), from: open, to };
  }
  const typed = /[\w+-]*$/.exec(before)?.[0] ?? '';
  const head = before.slice(0, caret - typed.length);
  const to = caret + (/^\w*/.exec(text.slice(caret))?.[0].length ?? 0);
  const wanted = wantedName(head, typed);
  return wanted && { wanted, typed, from: head.length, to };
}

/** Where the text literal begins that is open at the end; undefined if none is. */
function openText(before: string): number | undefined {
  let start: number | undefined;
  for (let at = 0; at < before.length; at++) {
    const character = before[at];
    if (start === undefined) {
      if (character === '"' || character === "'") start = at;
      else if (character === '#') return undefined;
    } else if (character === '\\') at += 1;
    else if (character === before[start]) start = undefined;
  }
  return start;
}

function wantedText(head: string): Wanted | undefined {
  if (METRIC.test(head)) return { kind: 'metric' };
  const compared = COMPARED.exec(head)?.[1] ?? LISTED.exec(head)?.[1];
  if (compared) return { kind: 'value', path: segmentsOf(compared) };
  if (/\brun\.tags\.contains\(\s*$/.test(head) || BEGIN.test(head)) return { kind: 'tag' };
  return undefined;
}

function wantedName(head: string, typed: string): Wanted | undefined {
  if (METRIC_MEMBER.test(head)) return { kind: 'metric member' };
  const path = MEMBER.exec(head)?.[1];
  if (path) return { kind: 'member', path: segmentsOf(path) };
  const compared = COMPARED.exec(head)?.[1];
  if (compared) return { kind: 'value', path: segmentsOf(compared) };
  // A number is complete as it is, and so is a space.
  if (typed === '' ? head.trim() !== '' && !BEGIN.test(head) : /^[\d+-]/.test(typed)) return undefined;
  return /[\w.\])"']$/.test(head) ? undefined : { kind: 'name' };
}

/** `run.hparams["learning rate"]` as its segments. */
function segmentsOf(path: string): string[] {
  const parts = path.match(/\w+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g) ?? [];
  return parts.map(part => (/^["']/.test(part) ? part.slice(1, -1).replace(/\\(.)/g, '$1') : part));
}
