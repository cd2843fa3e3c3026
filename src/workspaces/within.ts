import { setTimeout as delay } from "node:timers/promises";

/** What the work resolves with, or undefined after `ms` milliseconds, while it goes on. */
export async function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  const enough = new AbortController();
  try {
    return await Promise.race([work, delay(ms, undefined, { signal: enough.signal })]);
  } finally {
    enough.abort();
    work.catch(() => {});
  }
}
