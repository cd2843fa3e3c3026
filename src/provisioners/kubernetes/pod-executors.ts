import { setTimeout as delay } from "node:timers/promises";
import type { V1Pod } from "@kubernetes/client-node";
import { AppError } from "../../errors.ts";
import { HttpExecutor } from "../../executor/client.ts";
import { executorToken } from "./names.ts";
import { podState } from "./pod-state.ts";
import type { PodWatch } from "./pod-watch.ts";
import { EXECUTOR_PORT } from "./pod.ts";

const HEALTH_MS = 1000;
const CONNECT_RETRY_MS = { first: 2, longest: 50 };

export type PodExecutorSettings = {
  /** What the tokens of all executors derive from; the same in every replica. */
  tokenSecret: string;
  /** The package index of those who name none. */
  indexUrl: string;
  /** Ranges of the private and special addresses that rules of sessions may name. */
  privateRanges: readonly string[];
};

/** The executors in Pods: one client for each Pod and address, which keeps connections. */
export class PodExecutors {
  readonly #watch: PodWatch;
  readonly #settings: PodExecutorSettings;
  readonly #known = new Map<string, { uid: string; address: string; executor: HttpExecutor }>();

  constructor(watch: PodWatch, settings: PodExecutorSettings) {
    this.#watch = watch;
    this.#settings = settings;
  }

  at(pod: V1Pod): HttpExecutor {
    const { name = "", uid = "" } = pod.metadata ?? {};
    const address = pod.status?.podIP ?? "";
    const known = this.#known.get(name);
    if (known?.uid === uid && known.address === address) return known.executor;
    const host = address.includes(":") ? `[${address}]` : address;
    const { tokenSecret, indexUrl, privateRanges } = this.#settings;
    const token = executorToken(tokenSecret, name);
    const executor = new HttpExecutor({ url: `http://${host}:${EXECUTOR_PORT}`, token, indexUrl, privateRanges });
    for (const old of this.#known.keys()) if (this.#watch.get(old) === undefined) this.#known.delete(old);
    this.#known.set(name, { uid, address, executor });
    return executor;
  }

  /** Whether the executor of a Pod that runs answers at once. */
  async answersNow(pod: V1Pod): Promise<boolean> {
    try {
      await this.at(pod).health(AbortSignal.timeout(HEALTH_MS));
      return true;
    } catch {
      return false;
    }
  }

  forget(name: string): void {
    this.#known.delete(name);
  }

  /**
   * True when the executor answers: the moment its container has started, it is about to listen. False when its Pod does
   * not run any more.
   */
  async answers(pod: V1Pod, limit: AbortSignal): Promise<boolean> {
    const executor = this.at(pod);
    for (let waitMs = CONNECT_RETRY_MS.first; ; waitMs = Math.min(waitMs * 2, CONNECT_RETRY_MS.longest)) {
      try {
        await executor.health(AbortSignal.any([limit, AbortSignal.timeout(HEALTH_MS)]));
        return true;
      } catch (error) {
        if (error instanceof AppError && error.code !== "executor_unavailable") throw error;
        const now = this.#watch.get(pod.metadata?.name ?? "");
        if (now === undefined || now.metadata?.uid !== pod.metadata?.uid || podState(now).kind !== "running")
          return false;
        if (limit.aborted)
          throw new AppError("executor_unavailable", "the executor in the Pod does not answer", { cause: error });
        await delay(waitMs);
      }
    }
  }
}
