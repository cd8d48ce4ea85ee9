import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

import { CHROMIUM } from './tests/chromium.ts';
import FlakyTests from './tests/flaky_tests.ts';

// Vitest adds the reporter for annotations only if no reporters are set.
const ANNOTATIONS = process.env.GITHUB_ACTIONS === 'true' ? ['github-actions'] : [];

export default defineConfig({
  plugins: [svelte()],
  test: {
    reporters: ['default', ...ANNOTATIONS, new FlakyTests()],
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts'],
          exclude: ['src/gen/**'],
          // Tests read the colors of pages. Style sheets would be empty otherwise.
          css: { include: [/styles?\.css/] },
        },
      },
      {
        extends: true,
        test: {
          name: 'browser',
          include: CHROMIUM ? ['tests/**/*.test.ts'] : ['tests/size.test.ts'],
          globalSetup: 'tests/filled_project.ts',
          // Each file starts a browser, which mostly waits for its server.
          maxWorkers: 2,
          // Files share the modules that they import, which are read once for each worker. Tests keep no state in modules.
          isolate: false,
          // `make test` names the tests that needed a second try.
          retry: 1,
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'bench',
          include: ['bench/**/*.report.ts'],
          fileParallelism: false,
          testTimeout: 1_200_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
