/**
 * Reports flaky tests: tests that failed at first, and passed at another try. Vitest's own reporters leave out the
 * errors of the failed tries, and the names of quick tests. `make test` reads the lines with the names.
 */
import type { Reporter, TestCase, Vitest } from 'vitest/node';

export default class FlakyTests implements Reporter {
  private vitest: Vitest | undefined;

  onInit(vitest: Vitest): void {
    this.vitest = vitest;
  }

  onTestCaseResult(test: TestCase): void {
    if (!this.vitest || !test.diagnostic()?.flaky) return;
    const { logger } = this.vitest;
    logger.error(`\n FLAKY  ${test.module.relativeModuleId} > ${test.fullName}`);
    for (const error of test.result().errors ?? [])
      logger.printError(error, { project: test.project });
  }
}
