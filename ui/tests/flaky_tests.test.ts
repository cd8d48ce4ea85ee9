/** The reporter of flaky tests, in a separate run of Vitest that has one. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify, stripVTControlCharacters } from 'node:util';

import { expect, test } from 'vitest';

const VITEST = join(import.meta.dirname, '../node_modules/vitest/vitest.mjs');
const REPORTER = join(import.meta.dirname, 'flaky_tests.ts');
const EXAMPLE = `
let tries = 0;
describe('a group', () => {
  test('passes at once', () => {});
  test('passes at its second try', () => expect(++tries, 'number of tries').toBe(2));
});
`;

test('the error of a failed try is printed, although the test passes', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'matyan-ui-'));
  try {
    await writeFile(join(folder, 'example.test.ts'), EXAMPLE);
    const options = ['--root', folder, '--globals', '--retry', '1', '--reporter', REPORTER];
    const run = await promisify(execFile)(process.execPath, [VITEST, 'run', ...options]);
    const output = stripVTControlCharacters(run.stderr);
    expect(output.match(/^ FLAKY .*/gm)).toEqual([
      ' FLAKY  example.test.ts > a group > passes at its second try',
    ]);
    expect(output).toContain('AssertionError: number of tries: expected 1 to be 2');
    expect(output).toContain('example.test.ts:5:');
  } finally {
    await rm(folder, { recursive: true });
  }
});
