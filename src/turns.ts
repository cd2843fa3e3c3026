/** Lets work on the same key happen one after the other. */
export class Turns {
  /** The end of the last work on each key that has any. */
  readonly #last = new Map<string, Promise<unknown>>();

  /** Resolves when all that was to be done at the call has ended. */
  async settled(): Promise<void> {
    await Promise.all(this.#last.values());
  }

  /** Runs `work` when all that came before it for this key has ended. */
  async take<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve();
    const turn = before.then(work);
    // Its failure is the caller's; the next one's turn comes all the same.
    const ended = turn.catch(() => {});
    this.#last.set(key, ended);
    try {
      return await turn;
    } finally {
      if (this.#last.get(key) === ended) this.#last.delete(key);
    }
  }
}
