import type { Execution } from "./executions/execution.ts";

/**
 * In-process news of changed rows. A hint only: a waiter that misses one (another replica made the change) finds the
 * truth in the row when its time is over.
 */
export class Changes<T> {
  readonly #waiters = new Map<string, Set<(value: T | undefined) => void>>();

  /** Resolves with the next value for `key`, or with undefined after `ms` milliseconds or when `signal` aborts. */
  wait(key: string, ms: number, signal?: AbortSignal): Promise<T | undefined> {
    return new Promise((resolve) => {
      if (signal?.aborted === true || ms <= 0) return resolve(undefined);
      const waiters = this.#waiters.get(key) ?? new Set();
      this.#waiters.set(key, waiters);
      const done = (value: T | undefined): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", stop);
        waiters.delete(done);
        if (waiters.size === 0 && this.#waiters.get(key) === waiters) this.#waiters.delete(key);
        resolve(value);
      };
      const stop = (): void => done(undefined);
      const timer = setTimeout(stop, ms);
      signal?.addEventListener("abort", stop, { once: true });
      waiters.add(done);
    });
  }

  /**
   * What `read` gives once `isDone` says yes to it, or as it is after `waitMs` milliseconds or when `signal` aborts. Looks
   * again at every news of `key`, and after `recheckMs` without any.
   */
  async until(
    key: string,
    read: () => Promise<T>,
    isDone: (value: T) => boolean,
    { waitMs, recheckMs, signal }: { waitMs: number; recheckMs: number; signal?: AbortSignal | undefined },
  ): Promise<T> {
    const end = performance.now() + waitMs;
    for (;;) {
      const news = this.wait(key, Math.min(end - performance.now(), recheckMs), signal);
      const value = await read();
      if (isDone(value) || performance.now() >= end || signal?.aborted === true) return value;
      const changed = await news;
      if (changed !== undefined && isDone(changed)) return changed;
    }
  }

  notify(key: string, value: T): void {
    for (const waiter of [...(this.#waiters.get(key) ?? [])]) waiter(value);
  }

  get waiting(): number {
    return this.#waiters.size;
  }
}

/** How the domain asks the scheduler to look at a row now instead of at the next resync. */
export interface Wakeups {
  /** Resolves when one reconcile step for the session was done; a failed step is logged and taken up by the resync. */
  session(id: string): Promise<void>;
  /** Starts an execution whose lease this process holds. */
  execution(execution: Execution): void;
}
