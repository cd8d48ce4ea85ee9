import { expect, test } from 'vitest';

import { costOf, partsAround } from './explained.ts';

test('the cost of a query is the number of runs that it checks', () => {
  const check = (candidates: bigint, text: string): void =>
    expect(costOf({ fullScan: false, candidates })).toBe(text);
  check(0n, 'checks 0 runs');
  check(1n, 'checks 1 run');
  check(1_234n, 'checks 1\u202f234 runs');
  check(10_000n, 'checks 10\u202f000 or more runs');
  expect(costOf({ fullScan: true, candidates: 0n })).toBe('checks every run');
});

test('an error has its part of the query', () => {
  const at = (line: number, column: number, endColumn: number): string[] =>
    partsAround('run.a and\n"🦊" == run.b', { line, column, endColumn });
  expect(at(1, 5, 6)).toEqual(['run.', 'a', ' and\n"🦊" == run.b']);
  // A character of two units of UTF-16 counts as one character for the server.
  expect(at(2, 8, 11)).toEqual(['run.a and\n"🦊" == ', 'run', '.b']);
  expect(at(2, 99, 99)).toEqual(['run.a and\n"🦊" == run.b', ' ', '']);
});
