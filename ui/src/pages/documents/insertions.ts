/** The insertions that `/` at the start of a line of a report offers. */
import { PANEL_KINDS, type PanelKind } from '../../panels/panels.ts';

export type Insertion =
  { title: string; kind: PanelKind } | { title: string; text: string; cursor: number };

/** A text to insert; the cursor is where the bar is. */
function written(title: string, marked: string): Insertion {
  return { title, text: marked.replace('|', ''), cursor: marked.indexOf('|') };
}

/** Texts are written as they are, without a panel. */
const PANELS = (Object.keys(PANEL_KINDS) as PanelKind[]).filter(kind => kind !== 'text');

export const INSERTIONS: readonly Insertion[] = [
  ...PANELS.map(kind => ({ title: PANEL_KINDS[kind], kind })),
  written('Heading', '## |'),
  written('List of tasks', '- [ ] |'),
  { title: 'Table', text: '|  |  |\n|---|---:|\n|  |  |', cursor: 2 },
  written('Formula', '$$\n|\n$$'),
  written('Picture of an artifact', '![Caption](artifact:|RUN/path/to/picture.png)'),
  written('Code', '```\n|\n```'),
];

/** The insertions whose titles have the words of a text. */
export function insertionsFor(text: string): readonly Insertion[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return INSERTIONS.filter(({ title }) => words.every(word => title.toLowerCase().includes(word)));
}

/**
 * The command that is being typed before the cursor: its place and its text after the slash;
 * undefined if the line does not begin with a slash.
 */
export function commandAt(
  text: string,
  cursor: number,
): { from: number; text: string } | undefined {
  const from = text.lastIndexOf('\n', cursor - 1) + 1;
  const line = text.slice(from, cursor);
  return /^\/[\w ]*$/.test(line) ? { from, text: line.slice(1) } : undefined;
}
