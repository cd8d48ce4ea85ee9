/** A list that is being read, and the actions that wait for it, in their order. */
export class PendingList {
  #reading: Promise<void> | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #turn = 0;

  get isReading(): boolean {
    return this.#reading !== undefined;
  }

  /** Whether an action waits: later actions have to wait too. */
  get hasWaiting(): boolean {
    return this.#waiting > 0;
  }

  /** Resolves when no list is being read any more. */
  async settled(): Promise<void> {
    while (this.#reading) await Promise.allSettled([this.#reading]);
  }

  /** Takes the place of the list that was read before. */
  read(list: Promise<void>): Promise<void> {
    this.#reading = list;
    void Promise.allSettled([list]).then(() => {
      if (this.#reading === list) this.#reading = undefined;
    });
    return list;
  }

  /** Acts when no list is being read any more, unless everything is forgotten before. */
  add(action: () => unknown): void {
    const turn = this.#turn;
    this.#waiting += 1;
    this.#last = this.#last.then(async () => {
      while (this.#reading && turn === this.#turn) await Promise.allSettled([this.#reading]);
      if (turn === this.#turn) await action();
      this.#waiting -= 1;
    });
  }

  forget(): void {
    this.#turn += 1;
    this.#reading = undefined;
  }
}
