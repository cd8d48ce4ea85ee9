import { expect, test } from 'vitest';

import { GUIDE_IDS, guidesFor } from './guides.ts';

const ADDRESS = 'http://tracker:53800/p/speech';

test('every way to a first run has the address of the project and a command to install', () => {
  const guides = guidesFor(ADDRESS);
  expect(guides.map(({ id }) => id)).toEqual(GUIDE_IDS);
  for (const { code, install } of guides) {
    expect(code).toContain(ADDRESS);
    expect(install).toMatch(/^pip install /);
  }
});

test('clients of other trackers are unmodified', () => {
  const guides = guidesFor(ADDRESS).filter(({ install }) => !install.includes('matyan-client'));
  expect(guides.map(({ install }) => install)).toEqual([
    'pip install wandb',
    'pip install mlflow',
    'pip install matyan',
  ]);
  for (const { code } of guides) expect(code).not.toContain('matyan_client');
});

test('scripts for our package use nothing that 0.3 lacks', () => {
  const newer = /with |matyan_client\.wandb|matyan-client import/;
  for (const { code, install } of guidesFor(ADDRESS))
    if (install.includes('matyan-client')) expect(code).not.toMatch(newer);
});
