import { AppError } from "../errors.ts";

const WINDOW_MS = 60_000;
/** Past so many tenants, windows that are over are forgotten. */
const SWEEP_AT = 4096;

/** Counts each tenant's requests in windows of a minute, in this process. */
export class RequestRate {
  readonly #perMinute: number;
  readonly #windows = new Map<string, { startedAt: number; count: number }>();

  constructor(perMinute: number) {
    this.#perMinute = perMinute;
  }

  /** Counts one request at `now` (milliseconds of a monotonic clock). `rate_limited` when the window is used up. */
  count(tenant: string, now: number): void {
    const window = this.#windows.get(tenant);
    if (window === undefined || now - window.startedAt >= WINDOW_MS) {
      if (this.#windows.size >= SWEEP_AT) this.#sweep(now);
      this.#windows.set(tenant, { startedAt: now, count: 1 });
      return;
    }
    if (++window.count <= this.#perMinute) return;
    throw new AppError("rate_limited", `at most ${this.#perMinute} requests a minute`, {
      retryAfterS: (window.startedAt + WINDOW_MS - now) / 1000,
    });
  }

  #sweep(now: number): void {
    for (const [tenant, window] of this.#windows) if (now - window.startedAt >= WINDOW_MS) this.#windows.delete(tenant);
  }
}
