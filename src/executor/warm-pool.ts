import type { Log } from "../log.ts";
import type { PoolSpec, SandboxSpec } from "./protocol.ts";
import type { Sandbox } from "./sandbox.ts";

export type WarmPoolDeps = {
  log: Log;
  /** Makes a sandbox that is nobody's yet. */
  make(id: string, spec: SandboxSpec): Promise<Sandbox>;
  /** Ends one that will not be claimed, with its empty workspace. */
  discard(sandbox: Sandbox): Promise<void>;
  /** Whether programs run now: they come before refilling. */
  isBusy(): boolean;
};

type Pool = { spec: PoolSpec; ready: Sandbox[] };

/** Pause between two that are made, in milliseconds, so that refilling takes a bounded share of the machine. */
const PAUSE_MS = 20;
/** Longest that refilling waits for programs to end. */
const BUSY_MS = 500;
/** After a failure, since the next would most likely fail as well. */
const FAILED_MS = 5000;

/** Sandboxes started ahead, a pool for each template that wants one. Each is claimed once and never returned. */
export class WarmPools {
  readonly #d: WarmPoolDeps;
  #pools = new Map<string, Pool>();
  #made = 0;
  #filling: Promise<void> | null = null;
  #isClosed = false;

  constructor(deps: WarmPoolDeps) {
    this.#d = deps;
  }

  /** The pools that there shall be. What was made for another image, or beyond a size, is ended. */
  async set(specs: readonly PoolSpec[]): Promise<void> {
    const before = this.#pools;
    const surplus: Sandbox[] = [];
    this.#pools = new Map();
    for (const spec of specs) {
      const old = before.get(spec.id);
      const isSame = old !== undefined && keyOf(old.spec.sandbox) === keyOf(spec.sandbox);
      const ready = isSame ? old.ready : [];
      surplus.push(...ready.splice(spec.size));
      this.#pools.set(spec.id, { spec, ready });
      if (isSame) before.delete(spec.id);
    }
    for (const { ready } of before.values()) surplus.push(...ready.splice(0));
    this.#fill();
    await Promise.all(surplus.map((sandbox) => this.#d.discard(sandbox)));
    if (specs.some(({ once }) => once === true)) await this.#filling;
  }

  /** A sandbox that fits; `miss` when there is a pool for it but none is ready, null when there is no pool. */
  take(spec: SandboxSpec): Sandbox | "miss" | null {
    const pools = [...this.#pools.values()].filter((pool) => keyOf(pool.spec.sandbox) === keyOf(spec));
    if (pools.length === 0) return null;
    for (const { spec: pool, ready } of pools) {
      if (pool.once === true) pool.size = 0;
      for (let sandbox = ready.shift(); sandbox !== undefined; sandbox = ready.shift()) {
        if (sandbox.state.status !== "running") continue;
        this.#fill();
        return sandbox;
      }
    }
    this.#fill();
    return "miss";
  }

  /** How many are ready, by pool. */
  sizes(): Record<string, number> {
    return Object.fromEntries([...this.#pools].map(([id, { ready }]) => [id, ready.length]));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#filling;
    await this.set([]);
  }

  #fill(): void {
    if (this.#isClosed) return;
    this.#filling ??= this.#fillAll().finally(() => (this.#filling = null));
  }

  /** One at a time until every pool is full. */
  async #fillAll(): Promise<void> {
    for (;;) {
      for (let waited = 0; this.#d.isBusy() && waited < BUSY_MS; waited += PAUSE_MS) await Bun.sleep(PAUSE_MS);
      const pool = [...this.#pools.values()].find(({ spec, ready }) => ready.length < spec.size);
      if (pool === undefined || this.#isClosed) return;
      try {
        const sandbox = await this.#d.make(`warm-${process.pid}-${++this.#made}`, pool.spec.sandbox);
        if (this.#pools.get(pool.spec.id)?.ready === pool.ready) pool.ready.push(sandbox);
        else await this.#d.discard(sandbox);
        await Bun.sleep(PAUSE_MS);
      } catch (error) {
        this.#d.log.warn("warm_pool.failed", { pool: pool.spec.id, error });
        if (pool.spec.once === true) pool.spec.size = 0;
        else await Bun.sleep(FAILED_MS);
      }
    }
  }
}

/** What can't be bound late. */
function keyOf({ imageUrl, runtimeType, preload = [], network }: SandboxSpec): string {
  return JSON.stringify([imageUrl, runtimeType, preload, network?.allow ?? []]);
}
