/** Limits that keep the UI small: bytes that a reader waits for, lines of a file, libraries. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..');
const FIRST_LOAD_BYTES = 130_000;
const PAGE_BYTES = 60_000;
const FILE_LINES = 700;
const LIBRARIES = 7;

async function sources(): Promise<[path: string, lines: number][]> {
  const names = await readdir(join(ROOT, 'src'), { recursive: true });
  const own = names.filter(
    name => /\.(ts|svelte|css)$/.test(name) && !name.startsWith('gen/') && !name.includes('.test.'),
  );
  const counted = own.map(async (name): Promise<[string, number]> => {
    const text = await readFile(join(ROOT, 'src', name), 'utf8');
    return [name, text.trimEnd().split('\n').length];
  });
  return Promise.all(counted);
}

test('files are short', async () => {
  const all = await sources();
  expect(all.length).toBeGreaterThan(100);
  expect(all.filter(([, lines]) => lines > FILE_LINES)).toEqual([]);
});

test('there are few libraries', async () => {
  const { dependencies } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as {
    dependencies: object;
  };
  expect(Object.keys(dependencies).length).toBeLessThanOrEqual(LIBRARIES);
});

/** Files that a page of the build loads immediately: scripts and styles of the index, and what those import. */
async function loads(entry: string, seen = new Set<string>()): Promise<Set<string>> {
  if (seen.has(entry)) return seen;
  seen.add(entry);
  if (!entry.endsWith('.js')) return seen;
  const text = await readFile(join(ROOT, 'dist/assets', entry), 'utf8');
  for (const [, name] of text.matchAll(/(?:from|import)\s*["']\.\/([\w.-]+)["']/g))
    await loads(name as string, seen);
  return seen;
}

async function gzipped(names: Iterable<string>): Promise<number> {
  const sizes = [...names].map(
    async name => gzipSync(await readFile(join(ROOT, 'dist/assets', name)), { level: 9 }).length,
  );
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

test('the build is small', async () => {
  const index = await readFile(join(ROOT, 'dist/index.html'), 'utf8');
  // The content security policy forbids scripts and styles in the page.
  expect(index).not.toMatch(/<script(?![^>]*src=)|<style|\son\w+=/);
  const first = new Set<string>();
  for (const [, name] of index.matchAll(/assets\/([\w.-]+\.(?:js|css))/g))
    await loads(name as string, first);
  const firstBytes = await gzipped(first);
  console.info(`first load: ${firstBytes} bytes gzipped`);
  expect(firstBytes).toBeLessThanOrEqual(FIRST_LOAD_BYTES);
  const names = await readdir(join(ROOT, 'dist/assets'));
  for (const page of names.filter(name => /^[A-Z]\w*-[\w-]+\.js$/.test(name))) {
    const own = [...(await loads(page))].filter(name => !first.has(name));
    const styles = names.filter(
      name =>
        name.endsWith('.css') && own.some(script => script.split('-')[0] === name.split('-')[0]),
    );
    const bytes = await gzipped([...own, ...styles]);
    console.info(`${page}: ${bytes} bytes gzipped`);
    expect(bytes).toBeLessThanOrEqual(PAGE_BYTES);
  }
  const files = await readdir(join(ROOT, 'dist/assets'));
  for (const file of files) expect(file).toMatch(/-[\w-]{8}\.(js|css|svg|html)(\.gz)?$/);
});
