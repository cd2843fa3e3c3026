import { AppError } from "../errors.ts";

const ASK_MS = 1000;
/** An executor that has not answered for so long, though it was asked again and again, is lost. One that is busy takes less. */
const LOST_MS = 5000;

/**
 * Whether an executor on another host is still there while its answers are waited for. The other end of a connection can vanish
 * with its Pod or node without a word, and what waits for a silent program would wait for ever.
 */
export class Pulse {
  readonly #ask: (signal: AbortSignal) => Promise<unknown>;
  readonly #waiting = new Set<(error: Error) => void>();
  #timer: ReturnType<typeof setInterval> | null = null;
  #heardMs = 0;

  /** `ask` resolves when the executor answers. */
  constructor(ask: (signal: AbortSignal) => Promise<unknown>) {
    this.#ask = ask;
  }

  /** What `work` resolves with. Throws when the executor is lost meanwhile. */
  async during<T>(work: Promise<T>): Promise<T> {
    const { promise: lost, reject } = Promise.withResolvers<never>();
    this.#waiting.add(reject);
    if (this.#timer === null) {
      this.#heardMs = performance.now();
      this.#timer = setInterval(() => void this.#beat(), ASK_MS);
    }
    try {
      return await Promise.race([work, lost]);
    } finally {
      this.#waiting.delete(reject);
    }
  }

  async #beat(): Promise<void> {
    if (this.#waiting.size === 0) return this.#stop();
    try {
      await this.#ask(AbortSignal.timeout(LOST_MS));
      this.#heardMs = performance.now();
    } catch (error) {
      const code = error instanceof AppError ? error.code : "executor_unavailable";
      // Another Pod may have the address by now.
      if (code === "unauthorized") return this.#lose("another executor answers in its place");
      const silentMs = performance.now() - this.#heardMs;
      if (code !== "executor_unavailable") this.#heardMs = performance.now();
      else if (silentMs >= LOST_MS) this.#lose(`the executor has not answered for ${Math.round(silentMs)} ms`);
    }
  }

  #lose(why: string): void {
    for (const reject of this.#waiting) reject(new Error(why));
    this.#stop();
  }

  #stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}
