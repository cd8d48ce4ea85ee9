import { expect, test } from 'vitest';

import { pageOfFragment, printedPage } from './printed_pages.ts';

test('the addresses that clients of W&B print lead to pages', () => {
  const runsOf = (condition: string) => ({ name: 'runs', params: {}, query: condition });
  expect(printedPage('/matyan/demo')).toEqual(runsOf('run.experiment == "demo"'));
  expect(printedPage('/team/a%20%22b%22/')).toEqual(runsOf('run.experiment == "a \\"b\\""'));
  expect(printedPage('/authorize')).toMatchObject({ name: 'access' });
});

test('a mistyped address of a page here is no project of W&B', () => {
  const paths = ['/experiments/demo', '/tags/a', '/access/x', '/run', '/a/b/c', '/a/', '/%ff/a'];
  for (const path of paths) expect(printedPage(path), path).toBeUndefined();
});

test('the addresses that clients of MLflow print lead to pages', () => {
  const run = { name: 'run', params: { run: '4865bf' } };
  expect(pageOfFragment('#/experiments/7/runs/4865bf')).toMatchObject(run);
  expect(pageOfFragment('#/experiments/7')).toMatchObject({ name: 'experiments' });
  for (const other of ['', '#', '#/models/lin', '#/experiments/7/runs/', '#notes'])
    expect(pageOfFragment(other), other).toBeUndefined();
});
