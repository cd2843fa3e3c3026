import { AppError } from "../errors.ts";
import type { Access, RouteAccess } from "./auth.ts";

/** What a long call holds while it goes on. */
export type Watched = { readonly signal: AbortSignal; release(): void };

type Caller = { headers: Headers; access: RouteAccess; calls: Set<AbortController> };

/**
 * Looks again and again whether the callers of open streams may still call, so that a stream ends soon after its key was
 * revoked, in whichever process that was. One look a caller, however many streams it has.
 */
export class KeyWatch {
  readonly #access: Access;
  readonly #everyMs: number;
  readonly #callers = new Map<string, Caller>();
  #timer: ReturnType<typeof setTimeout> | null = null;

  constructor(access: Access, everyMs: number) {
    this.#access = access;
    this.#everyMs = everyMs;
  }

  /** The signal aborts when the caller of these headers may not call any more. */
  add(headers: Headers, access: RouteAccess): Watched {
    const id = JSON.stringify(["authorization", "x-api-key", "host", "origin"].map((name) => headers.get(name)));
    const controller = new AbortController();
    let caller = this.#callers.get(id);
    if (caller === undefined) this.#callers.set(id, (caller = { headers, access, calls: new Set() }));
    const { calls } = caller;
    calls.add(controller);
    this.#schedule();
    const release = (): void => {
      calls.delete(controller);
      if (calls.size === 0 && this.#callers.get(id)?.calls === calls) this.#callers.delete(id);
    };
    return { signal: controller.signal, release };
  }

  #schedule(): void {
    if (this.#timer !== null || this.#callers.size === 0) return;
    this.#timer = setTimeout(() => void this.#look(), this.#everyMs);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    for (const [id, caller] of this.#callers) {
      if (await this.#mayCall(caller)) continue;
      this.#callers.delete(id);
      for (const call of caller.calls) call.abort();
    }
    this.#timer = null;
    this.#schedule();
  }

  /** While keys can't be read nothing is known, and a stream that was allowed goes on. */
  async #mayCall({ headers, access }: Caller): Promise<boolean> {
    try {
      await this.#access.tenantOf(headers, access);
      return true;
    } catch (error) {
      return !(error instanceof AppError && (error.code === "unauthorized" || error.code === "forbidden_origin"));
    }
  }
}
