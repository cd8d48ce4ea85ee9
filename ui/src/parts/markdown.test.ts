import { expect, test } from 'vitest';

import { parseInlines, parseMarkdown, pictureOf, withLines, withTask } from './markdown.ts';

test('every kind of block is found', () => {
  const text = `# Title #
One line
and its next.

- first
- second
  continues
1. third
> a quote
> of two lines
---
| a | b |
|---|:-:|
| 1 | 2 |
\`\`\`chart
metric: loss
\`\`\`
end`;
  expect(parseMarkdown(text).map(({ kind }) => kind)).toEqual([
    'heading',
    'paragraph',
    'list',
    'quote',
    'rule',
    'table',
    'code',
    'paragraph',
  ]);
  expect(parseMarkdown(text)[2]).toMatchObject({
    items: [
      { inlines: [{ text: 'first' }], line: 4 },
      { inlines: [{ text: 'second continues' }], line: 5 },
      { line: 7 },
    ],
  });
  expect(parseMarkdown(text)[5]).toMatchObject({
    alignments: [undefined, 'center'],
    rows: [
      [[{ text: 'a' }], [{ text: 'b' }]],
      [[{}], [{}]],
    ],
  });
  expect(parseMarkdown(text)[6]).toEqual({
    ...{ kind: 'code', language: 'chart', text: 'metric: loss' },
    // Lines 14 to 16, with both fences.
    ...{ line: 14, lines: 3 },
  });
});

test('parts of a line are marked, and everything else is text', () => {
  expect(parseInlines('a **b** `c*d*` *e* [f](https://example.com) snake_case_name')).toEqual([
    { kind: 'text', text: 'a ' },
    { kind: 'strong', text: 'b' },
    { kind: 'text', text: ' ' },
    { kind: 'code', text: 'c*d*' },
    { kind: 'text', text: ' ' },
    { kind: 'emphasis', text: 'e' },
    { kind: 'text', text: ' ' },
    { kind: 'link', text: 'f', href: 'https://example.com' },
    { kind: 'text', text: ' snake_case_name' },
  ]);
});

test('a link runs nothing', () => {
  for (const address of [
    'javascript:alert(1)',
    'data:text/html,x',
    '//example.com',
    'JAVASCRIPT:x',
  ])
    expect(parseInlines(`[x](${address})`).some(({ kind }) => kind === 'link')).toBe(false);
  expect(parseInlines('[x](/runs)')).toEqual([{ kind: 'link', text: 'x', href: '/runs' }]);
});

test('whatever is written, reading it ends, and no text is lost', () => {
  for (const text of [
    '```',
    '|',
    '>',
    '-',
    '#',
    '*',
    '1.',
    '| a',
    '```\nopen',
    '####### seven',
    '  indented',
    '***',
    '[]()',
  ])
    expect(parseMarkdown(`${text}\n\nend`).length, text).toBeGreaterThan(0);
  expect(parseMarkdown('####### seven')).toMatchObject([{ inlines: [{ text: '####### seven' }] }]);
});

test('tasks are known by their marks, and are done in the text', () => {
  const text = 'Do:\n\n- [ ] first\n  more\n- [x] second\n- [y] third\n1. [X] fourth';
  const [, list] = parseMarkdown(text);
  expect(list).toMatchObject({
    items: [
      { isDone: false, line: 2, inlines: [{ text: 'first more' }] },
      { isDone: true, line: 4 },
      { line: 5, inlines: [{ text: '[y] third' }] },
      { isDone: true, line: 6 },
    ],
  });
  expect(list?.kind === 'list' && list.items[2]?.isDone).toBeUndefined();
  expect(withTask(text, 2, true)).toBe(text.replace('[ ] first', '[x] first'));
  expect(withTask(text, 4, false)).toBe(text.replace('[x] second', '[ ] second'));
  expect(withTask(text, 99, true)).toBe(text);
});

test('formulas are blocks and parts of lines, and prices are not formulas', () => {
  const text = 'so $x^2$ is\n$$ a + b $$\n$$\nc\n\nd $$\n\nend';
  expect(parseMarkdown(text)).toEqual([
    {
      kind: 'paragraph',
      inlines: [
        { kind: 'text', text: 'so ' },
        { kind: 'math', text: 'x^2' },
        { kind: 'text', text: ' is' },
      ],
    },
    { kind: 'math', text: 'a + b' },
    { kind: 'math', text: 'c\n\nd' },
    { kind: 'paragraph', inlines: [{ kind: 'text', text: 'end' }] },
  ]);
  for (const price of ['costs $5 and $6', '$5', 'US$5 to US$6'])
    expect(
      parseInlines(price).some(({ kind }) => kind === 'math'),
      price,
    ).toBe(false);
});

test('pictures are artifacts, and other addresses stay text', () => {
  expect(parseInlines('![A picture](artifact:abc/plots/roc%20curve.png)')).toEqual([
    { kind: 'picture', text: 'A picture', href: 'artifact:abc/plots/roc%20curve.png' },
  ]);
  expect(pictureOf('artifact:abc/plots/roc%20curve.png')).toEqual({
    ...{ runId: 'abc', path: 'plots/roc curve.png' },
  });
  expect(pictureOf('artifact:abc')).toBeUndefined();
  expect(pictureOf('artifact:abc/%')).toBeUndefined();
  for (const address of ['javascript:alert(1)', 'data:image/svg+xml,x', 'artifact:', '//x/y'])
    expect(parseInlines(`![x](${address})`)).toEqual([{ kind: 'text', text: `![x](${address})` }]);
});

test('cells of a table may have a bar, and its columns an alignment', () => {
  expect(parseMarkdown('| a \\| b | c | d |\n|:--|--:|---|\n| 1 | 2 | 3 |')).toMatchObject([
    {
      alignments: ['left', 'right', undefined],
      rows: [
        [[{ text: 'a | b' }], [{ text: 'c' }], [{ text: 'd' }]],
        [[{ text: '1' }], {}, {}],
      ],
    },
  ]);
});

test('lines are replaced where a panel is edited', () => {
  expect(withLines('a\n```chart\nx\n```\nb', 1, 3, '```runs\n```')).toBe('a\n```runs\n```\nb');
});
