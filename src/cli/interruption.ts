/** SIGINT is Ctrl-C, SIGTERM a supervisor, SIGHUP a terminal that went away. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const EXIT_CODE = 130;

/** Ends this command when it is told to: the first signal asks for an orderly end, the second ends the process at once. */
export class Interruption {
  readonly #asked = new AbortController();
  /** What a second signal does before the process exits; it must not wait for anything. */
  leaveBehind: () => void = () => {};

  /** Takes the signals from now on. */
  constructor() {
    for (const signal of SIGNALS) process.on(signal, () => this.#take());
  }

  /** Aborted by the first signal. */
  get signal(): AbortSignal {
    return this.#asked.signal;
  }

  #take(): void {
    if (!this.#asked.signal.aborted) return this.#asked.abort();
    try {
      this.leaveBehind();
    } finally {
      process.exit(EXIT_CODE);
    }
  }
}
