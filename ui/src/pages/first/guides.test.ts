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

test('runs of MLflow are imported from a directory or from a database', () => {
  const mlflow = guidesFor(ADDRESS).find(({ id }) => id === 'mlflow');
  expect(mlflow?.code).toBe(`matyan-client import mlflow . --repo ${ADDRESS}\n`);
});

test('only guides that ask for a newer client use what 0.3 lacks', () => {
  const newer = /with |matyan_client\.wandb|matyan-client import/;
  for (const { code, install } of guidesFor(ADDRESS))
    expect(newer.test(code)).toBe(install.includes('>=0.4'));
});
