import { expect, test } from 'vitest';

import { parseInlines, parseMarkdown } from './markdown.ts';

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
    items: [[{ text: 'first' }], [{ text: 'second continues' }], [{}]],
  });
  expect(parseMarkdown(text)[5]).toMatchObject({
    rows: [
      [[{ text: 'a' }], [{ text: 'b' }]],
      [[{}], [{}]],
    ],
  });
  expect(parseMarkdown(text)[6]).toEqual({ kind: 'code', language: 'chart', text: 'metric: loss' });
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
