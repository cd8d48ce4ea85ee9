import { expect, test } from 'vitest';

import { ansiSpans, ansiText } from './ansi.ts';

test('colors and styles become spans', () => {
  expect(ansiSpans('plain')).toEqual([{ text: 'plain' }]);
  expect(ansiSpans('\x1b[31;1mred\x1b[0m rest')).toEqual([
    { text: 'red', color: 1, bold: true },
    { text: ' rest' },
  ]);
  expect(ansiSpans('\x1b[92;104ma\x1b[39mb\x1b[49mc')).toEqual([
    { text: 'a', color: 10, background: 12 },
    { text: 'b', background: 12 },
    { text: 'c' },
  ]);
  expect(ansiSpans('\x1b[1;2;3;4ma\x1b[22mb\x1b[23;24mc')).toEqual([
    { text: 'a', bold: true, dim: true, italic: true, underline: true },
    { text: 'b', italic: true, underline: true },
    { text: 'c' },
  ]);
});

test('extended colors', () => {
  const color = (codes: string): unknown => ansiSpans(`\x1b[38;${codes}mx`)[0]?.color;
  expect(color('5;3')).toBe(3);
  expect(color('5;208')).toBe('rgb(255 135 0)');
  expect(color('5;232')).toBe('rgb(8 8 8)');
  expect(color('2;1;2;300')).toBe('rgb(1 2 255)');
  expect(ansiSpans('\x1b[38;5;208;1mx')).toEqual([
    { text: 'x', color: 'rgb(255 135 0)', bold: true },
  ]);
});

test('all other sequences are dropped, and markup stays text', () => {
  expect(ansiText('\x1b[2Ka\x1b[3;4Hb\x1b]0;title\x07c\x1b]8;;http://x\x1b\\link')).toBe('abclink');
  expect(ansiText('\x1b[38;5mx\x1b[')).toBe('x[');
  expect(ansiSpans('<b>\x00bold</b>\t.')).toEqual([{ text: '<b>bold</b>\t.' }]);
});

test('a line that was written over shows what was written last', () => {
  expect(ansiText('10 %\r50 %\r100 %\r\n')).toBe('100 %');
});
