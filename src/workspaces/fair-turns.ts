type Waiting = { who: string; go(): void };

/**
 * Runs so many pieces of work at once, and never all for the same caller: whoever has N that run gets another place only while
 * more than N are free. So a place is left for those who have none, however long the work of others takes.
 */
export class FairTurns {
  #free: number;
  readonly #held = new Map<string, number>();
  #waiting: Waiting[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  /** Runs `work` when it is its turn, of those who may in the order of the calls. */
  async run<T>(who: string, work: () => Promise<T>): Promise<T> {
    if (this.#may(who)) this.#take(who);
    else {
      const turn = Promise.withResolvers<void>();
      this.#waiting.push({ who, go: turn.resolve });
      await turn.promise;
    }
    try {
      return await work();
    } finally {
      this.#giveBack(who);
    }
  }

  #may(who: string): boolean {
    return this.#free > (this.#held.get(who) ?? 0);
  }

  #take(who: string): void {
    this.#free -= 1;
    this.#held.set(who, (this.#held.get(who) ?? 0) + 1);
  }

  #giveBack(who: string): void {
    this.#free += 1;
    const held = (this.#held.get(who) ?? 1) - 1;
    if (held === 0) this.#held.delete(who);
    else this.#held.set(who, held);
    const still: Waiting[] = [];
    for (const one of this.#waiting) {
      if (!this.#may(one.who)) {
        still.push(one);
        continue;
      }
      this.#take(one.who);
      one.go();
    }
    this.#waiting = still;
  }
}
