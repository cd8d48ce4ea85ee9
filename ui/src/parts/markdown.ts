/**
 * Reads Markdown: headings, paragraphs, lists, tasks, quotes, tables, code, formulas, links and
 * pictures. All else is text, and so is HTML.
 */
export interface Inline {
  kind: 'text' | 'strong' | 'emphasis' | 'code' | 'link' | 'math' | 'picture';
  text: string;
  /** Target of a link: a page, or another site over HTTP; or the place of a picture. */
  href?: string;
}

export interface Item {
  inlines: Inline[];
  /** Whether a task is done; absent: the item is no task. */
  isDone?: boolean;
  /** The line of the text that has the item, from 0 on. */
  line: number;
}

export type Alignment = 'left' | 'center' | 'right' | undefined;

export type Block =
  | { kind: 'heading'; level: number; inlines: Inline[] }
  | { kind: 'paragraph'; inlines: Inline[] }
  | { kind: 'quote'; inlines: Inline[] }
  | { kind: 'list'; isOrdered: boolean; items: Item[] }
  | { kind: 'table'; rows: Inline[][][]; alignments: Alignment[] }
  /** `line` is the line that opens the code, from 0 on, and `lines` their number with both fences. */
  | { kind: 'code'; language: string; text: string; line: number; lines: number }
  | { kind: 'math'; text: string }
  | { kind: 'rule' };

const ITEM = /^\s*(?:[-*+]|(\d+)[.)])\s+/;
const TASK = /^\[([ xX])\]\s+/;
const FENCE = /^\s*```\s*(\S*)/;
const RULER = /^\|[\s:|-]+$/;
/** A line that opens and perhaps also closes a formula. */
const FORMULA = /^\s*\$\$(.*?)(\$\$)?\s*$/;
/** The start of a block other than a paragraph. */
const BEGIN = /^(#{1,6}\s|>|\s*```|\s*\$\$|\s*([-*+]|\d+[.)])\s|\||\s*([-*_])(\s*\3){2,}\s*$)/;

export function parseMarkdown(text: string): Block[] {
  const lines = text.replace(/\r\n?/g, '\n').split('\n');
  const blocks: Block[] = [];
  let at = 0;
  /** The last line and the lines after it that belong to it. */
  const take = (belongs: (line: string) => boolean): string[] => {
    const first = at - 1;
    while (at < lines.length && belongs(lines[at] as string)) at += 1;
    return lines.slice(first, at);
  };
  while (at < lines.length) {
    const line = lines[at++] as string;
    const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line);
    const fence = FENCE.exec(line);
    const formula = FORMULA.exec(line);
    if (line.trim() === '') continue;
    if (fence) {
      const first = at - 1;
      const [, ...code] = take(own => !/^\s*```\s*$/.test(own));
      at = Math.min(at + 1, lines.length);
      const place = { line: first, lines: at - first };
      blocks.push({ kind: 'code', language: fence[1] ?? '', text: code.join('\n'), ...place });
    } else if (formula) {
      const [, start = '', isClosed] = formula;
      const [, ...rest] = isClosed ? [] : take(own => !own.includes('$$'));
      // The last line may have a part of the formula before its end.
      const end = isClosed ? '' : (lines[at++] ?? '').replace(/\$\$.*$/, '');
      blocks.push({ kind: 'math', text: [start, ...rest, end].join('\n').trim() });
    } else if (heading) {
      const [, signs = '', title = ''] = heading;
      blocks.push({ kind: 'heading', level: signs.length, inlines: parseInlines(title) });
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) blocks.push({ kind: 'rule' });
    else if (line.startsWith('>')) {
      const quote = take(own => own.startsWith('>')).map(own => own.replace(/^>\s?/, ''));
      blocks.push({ kind: 'quote', inlines: parseInlines(quote.join(' ')) });
    } else if (ITEM.test(line)) {
      const first = at - 1;
      const own = take(own => ITEM.test(own) || /^\s+\S/.test(own));
      blocks.push({ kind: 'list', isOrdered: /^\s*\d/.test(line), items: itemsOf(own, first) });
    } else if (line.startsWith('|')) blocks.push(tableOf(take(own => own.startsWith('|'))));
    else {
      const lines = take(own => own.trim() !== '' && !BEGIN.test(own));
      blocks.push({ kind: 'paragraph', inlines: parseInlines(lines.join('\n')) });
    }
  }
  return blocks;
}

/** A line that is indented continues its item. */
function itemsOf(lines: readonly string[], first: number): Item[] {
  const texts: { text: string; line: number }[] = [];
  for (const [at, line] of lines.entries()) {
    const last = texts.at(-1);
    if (ITEM.test(line) || !last) texts.push({ text: line.replace(ITEM, ''), line: first + at });
    else last.text += ` ${line.trim()}`;
  }
  return texts.map(({ text, line }): Item => {
    const mark = TASK.exec(text)?.[1];
    if (mark === undefined) return { inlines: parseInlines(text), line };
    return { inlines: parseInlines(text.replace(TASK, '')), line, isDone: mark !== ' ' };
  });
}

function cellsOf(row: string): string[] {
  const inner = row.trim().replace(/^\||\|$/g, '');
  return inner.split(/(?<!\\)\|/).map(cell => cell.trim().replace(/\\\|/g, '|'));
}

function tableOf(lines: readonly string[]): Block {
  const ruler = lines.find(line => RULER.test(line)) ?? '';
  const alignments = cellsOf(ruler).map((cell): Alignment => {
    const left = cell.startsWith(':');
    const right = cell.endsWith(':');
    return right ? (left ? 'center' : 'right') : left ? 'left' : undefined;
  });
  const rows = lines.filter(line => !RULER.test(line)).map(row => cellsOf(row).map(parseInlines));
  return { kind: 'table', rows, alignments };
}

/** The text with the task in a line done, or not done. */
export function withTask(text: string, line: number, isDone: boolean): string {
  const lines = text.split('\n');
  const own = lines[line];
  if (own === undefined) return text;
  return lines.with(line, own.replace(/\[[ xX]\]/, isDone ? '[x]' : '[ ]')).join('\n');
}

/** The text with other lines in place of `count` lines. */
export function withLines(text: string, line: number, count: number, next: string): string {
  return text.split('\n').toSpliced(line, count, next).join('\n');
}

const INLINE =
  /`([^`]+)`|\$((?!\s)[^$\n]*[^\s$])\$(?!\d)|\*\*(.+?)\*\*|__(.+?)__|\*([^\s*][^*]*)\*|\b_([^_]+)_\b|(!?)\[([^\]]*)\]\(([^()\s]+)\)/g;
const PAGE = /^(https?:\/\/|\/(?!\/)|#)/i;

export function parseInlines(text: string): Inline[] {
  const inlines: Inline[] = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    const [all, code, math, strong, bold, emphasis, italic, mark, title, address] = found;
    if (found.index > end) inlines.push({ kind: 'text', text: text.slice(end, found.index) });
    end = found.index + all.length;
    if (code !== undefined) inlines.push({ kind: 'code', text: code });
    else if (math !== undefined) inlines.push({ kind: 'math', text: math });
    else if (strong ?? bold) inlines.push({ kind: 'strong', text: strong ?? bold ?? '' });
    else if (emphasis ?? italic) inlines.push({ kind: 'emphasis', text: emphasis ?? italic ?? '' });
    else if (mark === '!' && address !== undefined && pictureOf(address))
      inlines.push({ kind: 'picture', text: title ?? '', href: address });
    else if (address !== undefined && PAGE.test(address))
      inlines.push({ kind: 'link', text: title || address, href: address });
    else inlines.push({ kind: 'text', text: all });
  }
  if (end < text.length) inlines.push({ kind: 'text', text: text.slice(end) });
  return inlines;
}

/** The artifact of a picture whose address is `artifact:RUN/path/to/file.png`. */
export function pictureOf(address: string): { runId: string; path: string } | undefined {
  const [, runId = '', path = ''] = /^artifact:([^/]+)\/(.+)$/s.exec(address) ?? [];
  try {
    return runId ? { runId, path: decodeURIComponent(path) } : undefined;
  } catch {
    return undefined;
  }
}
