import type { Execution } from "./executions/execution.ts";

type UntilOptions<T> = { waitMs: number; recheckMs: number; signal?: AbortSignal | undefined; known?: T | undefined };

type Watch<T> = {
  /** The newest value since the last call, at once if there is one; undefined after `ms` or when `signal` aborts. */
  next(ms: number, signal: AbortSignal | undefined): Promise<T | undefined>;
  end(): void;
};

/**
 * In-process news of changed rows. A hint only: a waiter that misses one (another replica made the change) finds the
 * truth in the row when its time is over.
 */
export class Changes<T> {
  readonly #watchers = new Map<string, Set<(value: T) => void>>();

  /** Resolves with the next value for `key`, or with undefined after `ms` milliseconds or when `signal` aborts. */
  async wait(key: string, ms: number, signal?: AbortSignal): Promise<T | undefined> {
    const watch = this.#watch(key);
    try {
      return await watch.next(ms, signal);
    } finally {
      watch.end();
    }
  }

  /**
   * What `read` gives once `isDone` says yes to it, or as it is after `waitMs` milliseconds or when `signal` aborts. Takes
   * every news of `key`, and reads again after `recheckMs` without any. `known`, when given, stands for the first reading:
   * for a caller who knows that nothing has changed yet.
   */
  async until(
    key: string,
    read: () => Promise<T>,
    isDone: (value: T) => boolean,
    { waitMs, recheckMs, signal, known }: UntilOptions<T>,
  ): Promise<T> {
    const end = performance.now() + waitMs;
    const watch = this.#watch(key);
    try {
      let value = known ?? (await read());
      for (;;) {
        const leftMs = end - performance.now();
        if (isDone(value) || leftMs <= 0 || signal?.aborted === true) return value;
        value = (await watch.next(Math.min(leftMs, recheckMs), signal)) ?? (await read());
      }
    } finally {
      watch.end();
    }
  }

  /** Keeps the newest value for `key` from now on until it is taken, so that none is missed between two waits. */
  #watch(key: string): Watch<T> {
    let latest: T | undefined;
    let wake = (): void => {};
    const watcher = (value: T): void => {
      latest = value;
      wake();
    };
    const watchers = this.#watchers.get(key) ?? new Set();
    this.#watchers.set(key, watchers);
    watchers.add(watcher);
    return {
      async next(ms, signal) {
        if (latest === undefined && ms > 0 && signal?.aborted !== true) {
          const woken = Promise.withResolvers<unknown>();
          const timer = setTimeout(woken.resolve, ms);
          signal?.addEventListener("abort", woken.resolve, { once: true });
          wake = woken.resolve;
          await woken.promise;
          clearTimeout(timer);
          signal?.removeEventListener("abort", woken.resolve);
        }
        const value = latest;
        latest = undefined;
        return value;
      },
      end: () => {
        watchers.delete(watcher);
        if (watchers.size === 0 && this.#watchers.get(key) === watchers) this.#watchers.delete(key);
      },
    };
  }

  notify(key: string, value: T): void {
    for (const watcher of this.#watchers.get(key) ?? []) watcher(value);
  }
}

/** How the domain asks the scheduler to look at a row now instead of at the next resync. */
export interface Wakeups {
  /**
   * Resolves when one reconcile step for the session was done. Never rejects: a failed step is logged and taken up by the
   * resync. `filesGo`: the files of a session that has ended need not be kept.
   */
  session(id: string, options?: { filesGo?: boolean }): Promise<void>;
  /** Starts an execution whose lease this process holds. */
  execution(execution: Execution): void;
  /** An execution that this process follows, which may be a moment ahead of its row. */
  followed(id: string): Execution | undefined;
}
