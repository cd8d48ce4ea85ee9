/**
 * Words in place of an expression, which find runs by their names, descriptions, tags,
 * experiments and hashes. The address of a page and its query field have the words; the server gets the expression.
 */

/** A phrase in quotes, or a word. */
const TERM = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'(?=\s|$)|\S+/g;
/** The objects of queries. `tests/vectors/query_names.json` has the names that the language has. */
export const OBJECTS =
  'run metric images audios texts distributions figures htmls point_clouds'.split(' ');
/** An object that is used, such as `run.name`, but not in a name such as `my-run.v2`. */
const OBJECT = new RegExp(`(?<![\\w.]|[\\w.][-/#])(${OBJECTS.join('|')})\\s*[.[]`);
/** Marks that only expressions have, even if they are not complete. */
const OPERATOR = /[<>]|[=!]=|["')\]]\s*(not\s+)?in\b|^\s*(run|True|False|None)\s*$|^\s*not\b/;

/** Whether a query is words: it refers to nothing, and compares nothing. */
export function isWords(query: string): boolean {
  if (query.trim() === '') return false;
  const code = query.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, '""');
  return !OBJECT.test(code) && !OPERATOR.test(code);
}

function termsOf(words: string): string[] {
  const terms = words.match(TERM) ?? [];
  return terms
    .map(term => (/^(["']).+\1$/s.test(term) ? term.slice(1, -1).replace(/\\(.)/g, '$1') : term))
    .filter(Boolean);
}

/** Finds runs in which a name, description, tag, experiment or hash has each of the words. */
export function wordsExpression(words: string): string {
  const finds = (term: string): string =>
    `any(${JSON.stringify(term.toLowerCase())} in text.lower() for text in ` +
    '[run.name or "", run.description or "", run.experiment or "", run.hash, *run.tags])';
  return termsOf(words).map(finds).join(' and ') || 'True';
}

/** The words as a condition next to others, with quotes around what an expression would be. */
export function wordsCondition(words: string): string {
  const isPlain = /^[\w\s./:@-]+$/.test(words) && !/\b(and|or|not|in|if|else|lambda)\b/.test(words);
  return isPlain
    ? words
    : termsOf(words)
        .map(term => JSON.stringify(term))
        .join(' ');
}
