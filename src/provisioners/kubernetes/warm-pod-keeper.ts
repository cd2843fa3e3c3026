import type { V1Pod } from "@kubernetes/client-node";
import type { SandboxSpec } from "../../executor/protocol.ts";
import { within } from "../../within.ts";
import type { WarmPod } from "../warm-pod.ts";
import { executorToken, newWarmName, WARM_POOL } from "./names.ts";
import { podState } from "./pod-state.ts";
import { podManifest } from "./pod.ts";
import { asAppError } from "./refusal.ts";
import type { WarmPodsDeps } from "./warm-pods.ts";

/** The Pods that there shall be of one kind. */
export type WarmPool = { key: string; templateId: string; size: number; spec: SandboxSpec };

/** Pools that this replica fills at the same time, one Pod after the other each. */
const MAX_FILLING = 4;
/** After the last claim, so that the sessions' first programs have the node to themselves. */
const REFILL_MS = 1000;
const FIRST_RETRY_MS = 5000;
const LONGEST_RETRY_MS = 300_000;
/** How long whoever planned a Pod may take to create it, and to make one that runs ready; it is given up then. */
const STALE_MS = 20_000;
/** A Pod that this replica does not want is left alone for so long: during a rolling update another one may. */
const UNWANTED_MS = 30_000;

/**
 * Has each pool filled and emptied. Every replica does so: a place in a pool is taken by a row before its Pod is created,
 * which one replica alone can do, and a Pod is nobody's any more by a row's end before it is deleted.
 */
export class WarmPodKeeper {
  readonly #d: WarmPodsDeps;
  readonly #closing = new AbortController();
  readonly #filling = new Map<string, Promise<void>>();
  readonly #failures = new Map<string, { count: number; retryMs: number }>();
  #pools: readonly WarmPool[] = [];
  #refill: ReturnType<typeof setTimeout> | undefined;

  constructor(deps: WarmPodsDeps) {
    this.#d = deps;
  }

  /** Withdraws what is not wanted or lost, and starts what is missing. */
  async resync(pools: readonly WarmPool[]): Promise<void> {
    this.#pools = pools;
    for (const key of this.#failures.keys()) if (!pools.some((pool) => pool.key === key)) this.#failures.delete(key);
    // In this order: a Pod has its row before it exists, so that one without a row has lost it.
    const pods = [...this.#d.watch.all()].filter((pod) => pod.metadata?.annotations?.[WARM_POOL] !== undefined);
    const rows = await this.#d.store.list();
    const names = new Set(rows.map((row) => row.name));
    for (const row of rows) if (row.session_id === null && !this.#isKept(row)) await this.#withdraw(row.name);
    for (const { metadata } of pods)
      if (metadata?.deletionTimestamp === undefined && !names.has(metadata?.name ?? ""))
        await this.#d.pods.delete(metadata?.name ?? "", { uid: metadata?.uid });
    this.#fill();
  }

  #isKept(row: WarmPod): boolean {
    const ageMs = Date.now() - Date.parse(row.created_at);
    const pool = this.#pools.find((one) => one.key === row.pool);
    if (pool === undefined) return ageMs < UNWANTED_MS;
    if (row.slot === null || row.slot >= pool.size) return false;
    const pod = this.#d.watch.get(row.name);
    if (pod === undefined) return Date.now() - Date.parse(row.ready_at ?? row.created_at) < STALE_MS;
    const { kind } = podState(pod);
    if (kind === "running") return row.ready_at !== null || runningMs(pod) < STALE_MS;
    return kind === "starting" && row.ready_at === null && ageMs < this.#d.startTimeoutMs + STALE_MS;
  }

  async #withdraw(name: string): Promise<void> {
    if (await this.#d.store.withdraw(name)) await this.#d.pods.delete(name, {});
  }

  /** Soon after it is asked for last. */
  fillSoon(): void {
    clearTimeout(this.#refill);
    this.#refill = setTimeout(() => this.#fill(), REFILL_MS).unref();
  }

  #fill(): void {
    for (const { key } of this.#pools) {
      const isDue = (this.#failures.get(key)?.retryMs ?? 0) <= performance.now();
      if (!isDue || this.#filling.has(key) || this.#filling.size >= MAX_FILLING) continue;
      const filled = this.#fillPool(key).finally(() => this.#filling.delete(key));
      this.#filling.set(key, filled);
    }
  }

  /** One at a time until each place is taken, by whomever. */
  async #fillPool(key: string): Promise<void> {
    for (;;) {
      const pool = this.#pools.find((one) => one.key === key);
      if (pool === undefined || this.#closing.signal.aborted) return;
      try {
        if (!(await this.#startOne(pool))) return;
        this.#failures.delete(key);
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        const count = (this.#failures.get(key)?.count ?? 0) + 1;
        const pauseMs = Math.min(FIRST_RETRY_MS * 2 ** (count - 1), LONGEST_RETRY_MS);
        this.#failures.set(key, { count, retryMs: performance.now() + pauseMs });
        this.#d.log.warn("warm_pod.failed", { template_id: pool.templateId, retry_ms: pauseMs, error });
        return;
      }
    }
  }

  /** False when no place is free. */
  async #startOne(pool: WarmPool): Promise<boolean> {
    const taken = new Set((await this.#d.store.list()).filter((row) => row.pool === pool.key).map((row) => row.slot));
    const slot = Array.from({ length: pool.size }, (_, place) => place).find((place) => !taken.has(place));
    if (slot === undefined) return false;
    const name = newWarmName();
    const at = new Date().toISOString();
    const plan = { name, pool: pool.key, template_id: pool.templateId, slot, created_at: at };
    if (!(await this.#d.store.plan(plan))) return true;
    try {
      await this.#start(name, pool);
      await this.#d.store.ready(name, new Date().toISOString());
    } catch (error) {
      await this.#withdraw(name);
      throw error;
    }
    return true;
  }

  async #start(name: string, pool: WarmPool): Promise<void> {
    const { client, settings, tokenSecret, executors, log, startTimeoutMs } = this.#d;
    const startedMs = performance.now();
    const { imageUrl: image, limits } = pool.spec;
    const purpose = { templateId: pool.templateId, pool: pool.key };
    const request = { purpose, name, image, limits, token: executorToken(tokenSecret, name) };
    const limit = AbortSignal.any([AbortSignal.timeout(startTimeoutMs), this.#closing.signal]);
    try {
      await client.createPod(podManifest(request, settings));
    } catch (error) {
      throw asAppError(error, "the cluster refused a warm Pod");
    }
    const pod = await this.#running(name, limit);
    if (!(await executors.answers(pod, limit))) throw new Error(`the warm Pod ${name} ended`);
    // What its sandbox can't be started with ahead is only slower: it is started at the claim then.
    await executors.at(pod).setPools([{ id: pool.templateId, size: 1, sandbox: pool.spec, once: true }]);
    const ms = Math.round(performance.now() - startedMs);
    log.info("warm_pod.ready", { template_id: pool.templateId, pod: name, ms });
  }

  async #running(name: string, limit: AbortSignal): Promise<V1Pod> {
    for (;;) {
      const news = this.#d.watch.changed(name, limit);
      const pod = this.#d.watch.get(name);
      const state = pod === undefined ? null : podState(pod);
      if (pod !== undefined && state?.kind === "running") return pod;
      if (state !== null && "reason" in state) throw new Error(state.reason);
      const waitsFor = state?.kind === "starting" ? state.waitsFor : null;
      if (limit.aborted) throw new Error(waitsFor ?? `the warm Pod ${name} did not run in time`);
      await news;
    }
  }

  /** Starts nothing more; what is being started is given up. */
  async close(): Promise<void> {
    clearTimeout(this.#refill);
    this.#closing.abort();
    await within(STALE_MS, Promise.allSettled(this.#filling.values()));
  }
}

function runningMs(pod: V1Pod): number {
  const startedAt = pod.status?.containerStatuses?.[0]?.state?.running?.startedAt;
  return startedAt === undefined ? 0 : Date.now() - new Date(startedAt).getTime();
}
