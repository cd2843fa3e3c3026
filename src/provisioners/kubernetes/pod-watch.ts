import { setTimeout as delay } from "node:timers/promises";
import type { V1Pod } from "@kubernetes/client-node";
import { AppError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { within } from "../../within.ts";
import { KubernetesError, type KubernetesClient } from "./client.ts";

/** The server ends a watch after a time in this range, so that replicas do not come back all at once. */
const WATCH_S = { min: 240, max: 300 };
/** A server sends bookmarks about once a minute: a watch that is silent for longer is dead, whatever TCP says. */
const SILENCE_MS = 150_000;
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 5000;
/** How long the API server may be out of reach until nobody may act on what it told before. */
const STALE_MS = 30_000;
/** How often everything is listed anew, which repairs whatever a watch may have missed. */
const RESYNC_MS = 600_000;

type Seen = (name: string, pod: V1Pod | null, before: V1Pod | undefined) => void;

/**
 * The Pods with a label as the API server last told, kept up by one watch. It resumes where it was cut, and lists anew
 * when that point is too long ago.
 */
export class PodWatch {
  readonly #client: KubernetesClient;
  readonly #selector: string;
  readonly #log: Log;
  readonly #seen: Seen;
  readonly #pods = new Map<string, V1Pod>();
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #stopping = new AbortController();
  readonly #synced = Promise.withResolvers<void>();
  #resourceVersion: string | null = null;
  #listedMs: number | null = null;
  /** `performance.now()` when the API server went out of reach; null while it is there. */
  #downSinceMs: number | null = null;
  #running: Promise<void> | null = null;

  /** `seen` hears of each change, with what was known before it; null: the Pod is gone. */
  constructor(client: KubernetesClient, selector: string, log: Log, seen: Seen = () => {}) {
    this.#client = client;
    this.#selector = selector;
    this.#log = log;
    this.#seen = seen;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  /** Resolves once there was a first list. Throws `executor_unavailable` when there is none within `waitMs`. */
  async synced(waitMs: number): Promise<void> {
    await within(waitMs, this.#synced.promise);
    this.checkFresh();
  }

  /** Throws `executor_unavailable` when the API server has been out of reach for too long to act on what is known. */
  checkFresh(): void {
    const downMs = this.#downSinceMs === null ? 0 : performance.now() - this.#downSinceMs;
    if (this.#listedMs !== null && downMs < STALE_MS) return;
    throw new AppError("executor_unavailable", "the Kubernetes API can't be reached", { retryAfterS: 2 });
  }

  get(name: string): V1Pod | undefined {
    return this.#pods.get(name);
  }

  all(): Iterable<V1Pod> {
    return this.#pods.values();
  }

  /** Resolves at the next news of the Pod of this name, its deletion included, or when the signal aborts. */
  async changed(name: string, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const waiters = this.#waiting.get(name) ?? new Set();
    this.#waiting.set(name, waiters);
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    waiters.add(wake);
    signal.addEventListener("abort", wake);
    await promise;
    signal.removeEventListener("abort", wake);
    waiters.delete(wake);
    if (waiters.size === 0 && this.#waiting.get(name) === waiters) this.#waiting.delete(name);
  }

  async #run(): Promise<void> {
    let retryMs = FIRST_RETRY_MS;
    while (!this.#stopping.signal.aborted) {
      try {
        const isDue = performance.now() - (this.#listedMs ?? 0) > RESYNC_MS;
        if (this.#resourceVersion === null || isDue) this.#resourceVersion = await this.#list();
        await this.#watch(this.#resourceVersion);
        retryMs = FIRST_RETRY_MS;
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        this.#downSinceMs ??= performance.now();
        const isExpired = error instanceof KubernetesError && error.status === 410;
        if (isExpired) this.#resourceVersion = null;
        else this.#log.warn("kubernetes.watch_failed", { error });
        await delay(retryMs, undefined, { signal: this.#stopping.signal }).catch(() => {});
        retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
      }
    }
  }

  /** The resource version that a watch can start from. */
  async #list(): Promise<string> {
    const { pods, resourceVersion } = await this.#client.listPods(this.#selector);
    const names = new Set(pods.map((pod) => pod.metadata?.name ?? ""));
    for (const name of this.#pods.keys()) if (!names.has(name)) this.#set(name, null);
    for (const pod of pods) this.#set(pod.metadata?.name ?? "", pod);
    this.#listedMs = performance.now();
    this.#downSinceMs = null;
    this.#synced.resolve();
    return resourceVersion;
  }

  async #watch(from: string): Promise<void> {
    const seconds = Math.round(WATCH_S.min + Math.random() * (WATCH_S.max - WATCH_S.min));
    const silent = new AbortController();
    const signal = AbortSignal.any([this.#stopping.signal, silent.signal]);
    const events = this.#client.watchPods(this.#selector, from, seconds, signal);
    let timer = setTimeout(() => silent.abort(), SILENCE_MS);
    try {
      for await (const { type, pod } of events) {
        clearTimeout(timer);
        timer = setTimeout(() => silent.abort(), SILENCE_MS);
        this.#downSinceMs = null;
        this.#resourceVersion = pod.metadata?.resourceVersion ?? this.#resourceVersion;
        if (type !== "BOOKMARK") this.#set(pod.metadata?.name ?? "", type === "DELETED" ? null : pod);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #set(name: string, pod: V1Pod | null): void {
    this.#seen(name, pod, this.#pods.get(name));
    if (pod === null) this.#pods.delete(name);
    else this.#pods.set(name, pod);
    for (const wake of this.#waiting.get(name) ?? []) wake();
  }
}
