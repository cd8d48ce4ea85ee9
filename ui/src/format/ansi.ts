/**
 * Lines of a terminal as spans of text, colors and styles. Other sequences are dropped, and nothing
 * becomes markup.
 */

/** A color of the terminal's palette of 16, or a CSS color. */
export type AnsiColor = number | string;

export interface AnsiSpan {
  text: string;
  color?: AnsiColor;
  background?: AnsiColor;
  bold?: true;
  dim?: true;
  italic?: true;
  underline?: true;
}

type Style = Omit<AnsiSpan, 'text'>;

/**
 * Sequences with parameters, titles and links that end with BEL or ST, and sequences of two
 * characters.
 */
const SEQUENCE = /\x1b(?:\[([\d;:]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])/g;
/** Characters without a shape, but for the tabulator. */
const CONTROL = /[\0-\x08\x0a-\x1f\x7f]/g;

export function ansiSpans(line: string): AnsiSpan[] {
  // A line that was overwritten shows its last text.
  const shown = line.replace(/[\r\n]+$/, '').replace(/^.*\r/s, '');
  const spans: AnsiSpan[] = [];
  let style: Style = {};
  let from = 0;
  const add = (text: string): void => {
    const plain = text.replace(CONTROL, '');
    if (plain) spans.push({ ...style, text: plain });
  };
  for (const match of shown.matchAll(SEQUENCE)) {
    add(shown.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] === 'm') style = styled(style, match[1] ?? '');
  }
  add(shown.slice(from));
  return spans;
}

export function ansiText(line: string): string {
  if (!/[\x1b\r]/.test(line)) return line;
  const texts = ansiSpans(line).map(({ text }) => text);
  return texts.join('');
}

function styled(before: Style, parameters: string): Style {
  const codes = parameters.split(/[;:]/).map(Number);
  let style: Style = { ...before };
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at] ?? 0;
    if (code === 38 || code === 48) {
      const [color, used] = extended(codes.slice(at + 1));
      if (color !== undefined) style[code === 38 ? 'color' : 'background'] = color;
      at += used;
    } else style = withCode(style, code);
  }
  return style;
}

const ON: Record<number, keyof Style> = { 1: 'bold', 2: 'dim', 3: 'italic', 4: 'underline' };
const OFF: Record<number, (keyof Style)[]> = {
  22: ['bold', 'dim'],
  23: ['italic'],
  24: ['underline'],
  39: ['color'],
  49: ['background'],
};

function withCode(style: Style, code: number): Style {
  if (code === 0) return {};
  const on = ON[code];
  if (on) return { ...style, [on]: true };
  const off = OFF[code];
  if (off)
    return Object.fromEntries(
      Object.entries(style).filter(([name]) => !off.includes(name as keyof Style)),
    );
  const first = [30, 40, 90, 100].find(first => code >= first && code < first + 8);
  if (first === undefined) return style;
  // The bright half of the palette has its own codes.
  const color = code - first + (first >= 90 ? 8 : 0);
  return { ...style, [first % 60 === 30 ? 'color' : 'background']: color };
}

/**
 * `5;N` from the palette of 256, `2;R;G;B`; also returns the number of codes that the color took.
 */
function extended(codes: readonly number[]): [color: AnsiColor | undefined, used: number] {
  const [kind, a = 0, b = 0, c = 0] = codes;
  if (kind === 2) return [rgb(a, b, c), 4];
  if (kind !== 5) return [undefined, 1];
  if (a < 16) return [a, 2];
  if (a >= 232)
    return [rgb(...([8, 8, 8].map(low => low + (a - 232) * 10) as [number, number, number])), 2];
  const level = (step: number): number => (step === 0 ? 0 : 55 + step * 40);
  const cube = a - 16;
  return [rgb(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)), 2];
}

function rgb(red: number, green: number, blue: number): string {
  const part = (value: number): number => Math.min(255, Math.max(0, Math.round(value) || 0));
  return `rgb(${part(red)} ${part(green)} ${part(blue)})`;
}
