/**
 * Reads Markdown: headings, paragraphs, lists, quotes, tables, code and links. All else is text,
 * and so is HTML.
 */
export interface Inline {
  kind: 'text' | 'strong' | 'emphasis' | 'code' | 'link';
  text: string;
  /** Target of a link: a page, or another site over HTTP. */
  href?: string;
}

export type Block =
  | { kind: 'heading'; level: number; inlines: Inline[] }
  | { kind: 'paragraph'; inlines: Inline[] }
  | { kind: 'quote'; inlines: Inline[] }
  | { kind: 'list'; isOrdered: boolean; items: Inline[][] }
  | { kind: 'table'; rows: Inline[][][] }
  | { kind: 'code'; language: string; text: string }
  | { kind: 'rule' };

const ITEM = /^\s*(?:[-*+]|(\d+)[.)])\s+/;
const FENCE = /^\s*```\s*(\S*)/;
/** The start of a block other than a paragraph. */
const BEGIN = /^(#{1,6}\s|>|\s*```|\s*([-*+]|\d+[.)])\s|\||\s*([-*_])(\s*\3){2,}\s*$)/;

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
    if (line.trim() === '') continue;
    if (fence) {
      const [, ...code] = take(own => !/^\s*```\s*$/.test(own));
      at += 1;
      blocks.push({ kind: 'code', language: fence[1] ?? '', text: code.join('\n') });
    } else if (heading) {
      const [, signs = '', title = ''] = heading;
      blocks.push({ kind: 'heading', level: signs.length, inlines: parseInlines(title) });
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) blocks.push({ kind: 'rule' });
    else if (line.startsWith('>')) {
      const quote = take(own => own.startsWith('>')).map(own => own.replace(/^>\s?/, ''));
      blocks.push({ kind: 'quote', inlines: parseInlines(quote.join(' ')) });
    } else if (ITEM.test(line)) {
      // A line that is indented continues its item.
      const items: string[] = [];
      for (const own of take(own => ITEM.test(own) || /^\s+\S/.test(own)))
        if (ITEM.test(own)) items.push(own.replace(ITEM, ''));
        else items.push(`${items.pop() ?? ''} ${own.trim()}`);
      blocks.push({ kind: 'list', isOrdered: /^\s*\d/.test(line), items: items.map(parseInlines) });
    } else if (line.startsWith('|')) {
      const rows = take(own => own.startsWith('|')).filter(own => !/^\|[\s:|-]+$/.test(own));
      const cells = rows.map(row => row.replace(/^\||\|\s*$/g, '').split('|'));
      blocks.push({
        kind: 'table',
        rows: cells.map(row => row.map(cell => parseInlines(cell.trim()))),
      });
    } else {
      const lines = take(own => own.trim() !== '' && !BEGIN.test(own));
      blocks.push({ kind: 'paragraph', inlines: parseInlines(lines.join('\n')) });
    }
  }
  return blocks;
}

const INLINE =
  /`([^`]+)`|\*\*(.+?)\*\*|__(.+?)__|\*([^\s*][^*]*)\*|\b_([^_]+)_\b|\[([^\]]*)\]\(([^()\s]+)\)/g;

export function parseInlines(text: string): Inline[] {
  const inlines: Inline[] = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    const [all, code, strong, bold, emphasis, italic, title, address] = found;
    if (found.index > end) inlines.push({ kind: 'text', text: text.slice(end, found.index) });
    end = found.index + all.length;
    if (code !== undefined) inlines.push({ kind: 'code', text: code });
    else if (strong ?? bold) inlines.push({ kind: 'strong', text: strong ?? bold ?? '' });
    else if (emphasis ?? italic) inlines.push({ kind: 'emphasis', text: emphasis ?? italic ?? '' });
    else if (address !== undefined && /^(https?:\/\/|\/(?!\/)|#)/i.test(address))
      inlines.push({ kind: 'link', text: title || address, href: address });
    else inlines.push({ kind: 'text', text: all });
  }
  if (end < text.length) inlines.push({ kind: 'text', text: text.slice(end) });
  return inlines;
}
