/** A change that a dialog makes, whose failure the dialog shows. */
export class Attempt {
  isBusy = $state(false);
  failure = $state.raw<unknown>();
  #run: (() => Promise<void>) | undefined;

  /** Does nothing while an earlier change is being made. */
  async make(run: () => Promise<void>): Promise<void> {
    if (this.isBusy) return;
    this.#run = run;
    this.isBusy = true;
    this.failure = undefined;
    try {
      await run();
    } catch (error) {
      this.failure = error;
    } finally {
      this.isBusy = false;
    }
  }

  retry = (): void => {
    if (this.#run) void this.make(this.#run);
  };
}
