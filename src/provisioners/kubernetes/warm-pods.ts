import { createHash } from "node:crypto";
import type { V1Pod } from "@kubernetes/client-node";
import type { SandboxSpec } from "../../executor/protocol.ts";
import type { Log } from "../../log.ts";
import type { Session } from "../../sessions/session.ts";
import type { Template } from "../../templates/template.ts";
import { VERSION } from "../../version.ts";
import { sandboxSpec, templateSpec } from "../sandbox-spec.ts";
import type { WarmPodStore } from "../warm-pod.ts";
import type { KubernetesClient } from "./client.ts";
import type { PodExecutors } from "./pod-executors.ts";
import { podState } from "./pod-state.ts";
import type { PodWatch } from "./pod-watch.ts";
import { podManifest, type PodSettings } from "./pod.ts";
import type { SessionPods } from "./session-pods.ts";
import { WarmPodKeeper, type WarmPool } from "./warm-pod-keeper.ts";

export type WarmPodsDeps = {
  client: KubernetesClient;
  watch: PodWatch;
  executors: PodExecutors;
  pods: SessionPods;
  store: WarmPodStore;
  log: Log;
  settings: PodSettings;
  tokenSecret: string;
  startTimeoutMs: number;
  maxRunning: number;
  maxProcesses: number;
  /** See SessionPodsOptions. */
  isLive?: ((session: Session) => Promise<boolean>) | undefined;
};

/** Pods that a claim looks at; more are only ready where others claim at the same time. */
const CANDIDATES = 16;
/** Sessions whose last Pod is remembered. */
const MAX_REMEMBERED = 2000;
/** Pods that a session tries before it gets one of its own. */
const MAX_TRIES = 3;

/** Pods that were started ahead, and the sessions that have one. Which session has which is in the store alone. */
export class WarmPods {
  readonly #d: WarmPodsDeps;
  readonly #keeper: WarmPodKeeper;
  /** What the store said last: it never gives a session another Pod while the one that it has is there. */
  readonly #known = new Map<string, string>();
  /** The Pod that each session was given last, also when it has none any more. */
  readonly #last = new Map<string, string>();
  /** Templates with a pool; null until they were told. */
  #templates: Set<string> | null = null;

  constructor(deps: WarmPodsDeps) {
    this.#d = deps;
    this.#keeper = new WarmPodKeeper(deps);
  }

  async keep(templates: readonly Template[]): Promise<void> {
    this.#templates = new Set(templates.map((template) => template.id));
    await this.#keeper.resync(templates.map((template) => this.#poolOf(template)));
  }

  #poolOf(template: Template): WarmPool {
    const spec = templateSpec(template, this.#d);
    return { key: this.#keyOf(template.id, spec), templateId: template.id, size: template.warm_pool_size, spec };
  }

  /** A digest of all that can't be bound late: the Pod itself, the program in it, and what its sandbox was started with. */
  #keyOf(templateId: string, { imageUrl, runtimeType, limits, preload = [] }: SandboxSpec): string {
    const purpose = { templateId, pool: "" };
    const manifest = podManifest({ purpose, name: "", image: imageUrl, limits, token: "" }, this.#d.settings);
    const text = JSON.stringify([VERSION, manifest, runtimeType, limits.maxProcesses, preload]);
    return createHash("sha256").update(text).digest("hex").slice(0, 32);
  }

  /** Ready Pods that are nobody's, by template. */
  async sizes(): Promise<Record<string, number>> {
    const sizes = Object.fromEntries([...(this.#templates ?? [])].map((id) => [id, 0]));
    for (const { template_id: id, session_id: sessionId, ready_at: readyAt } of await this.#d.store.list())
      if (sessionId === null && readyAt !== null && sizes[id] !== undefined) sizes[id] += 1;
    return sizes;
  }

  /** Name of the Pod that the session was given. */
  async nameOf(sessionId: string): Promise<string | null> {
    const known = this.#known.get(sessionId);
    if (known !== undefined) return known;
    const name = await this.#d.store.ofSession(sessionId);
    if (name !== null) this.#remember(sessionId, name);
    return name;
  }

  #remember(sessionId: string, name: string): void {
    this.#known.set(sessionId, name);
    this.#last.delete(sessionId);
    this.#last.set(sessionId, name);
    const [oldest] = this.#last.keys();
    if (this.#last.size > MAX_REMEMBERED && oldest !== undefined) this.#last.delete(oldest);
  }

  /** Name of the Pod that the session was given last, as far as this replica knows. */
  lastNameOf(sessionId: string): string | null {
    return this.#last.get(sessionId) ?? null;
  }

  /** The sessions that were given a Pod, with its name. */
  async sessions(): Promise<ReadonlyMap<string, string>> {
    const rows = await this.#d.store.list();
    this.#known.clear();
    for (const { session_id: sessionId, name } of rows) if (sessionId !== null) this.#remember(sessionId, name);
    return this.#known;
  }

  /**
   * The Pod that the session was given, with its executor answering; a session that is new is given one now. `miss` when
   * there is none for it although its template has a pool, null when that has none.
   */
  async take(session: Session): Promise<V1Pod | "miss" | null> {
    for (let i = 0; i < MAX_TRIES; i++) {
      // A session that is new has none, and if it has, its claim of another one fails.
      const known = this.#known.get(session.id);
      const name = known ?? (await this.#claim(session)) ?? (await this.nameOf(session.id));
      if (name === null) break;
      const pod = await this.#find(name);
      const isRunning = pod !== null && podState(pod).kind === "running";
      if (isRunning && (await this.#d.executors.answersNow(pod))) return pod;
      await this.forget(session.id, name);
    }
    return this.#templates?.has(session.template_id) === true ? "miss" : null;
  }

  /** Also where the watch is late. */
  async #find(name: string): Promise<V1Pod | null> {
    return this.#d.watch.get(name) ?? (await this.#d.client.getPod(name));
  }

  async #claim(session: Session): Promise<string | null> {
    const { store, watch, log } = this.#d;
    // One that ran already has a name of its own to come back under, which needs no row.
    if (session.status !== "creating" || this.#templates?.has(session.template_id) === false) return null;
    const key = this.#keyOf(session.template_id, sandboxSpec(session, this.#d.maxRunning));
    const names = (await store.claimable(key, CANDIDATES)).filter((name) => {
      const pod = watch.get(name);
      return pod !== undefined && podState(pod).kind === "running";
    });
    // Not all in the same order, so that replicas rarely want the same.
    for (const name of names.toSorted(() => Math.random() - 0.5)) {
      if (!(await store.claim(name, session.id))) {
        const own = await store.ofSession(session.id);
        if (own !== null) return own;
        continue;
      }
      if ((await this.#d.isLive?.(session)) === false) {
        await this.forget(session.id, name);
        return null;
      }
      log.info("warm_pod.claimed", { session_id: session.id, pod: name });
      this.#remember(session.id, name);
      this.#keeper.fillSoon();
      return name;
    }
    return null;
  }

  /** Ends the Pod that the session was given, if it was. */
  async release(sessionId: string): Promise<void> {
    const name = await this.nameOf(sessionId);
    if (name !== null) await this.forget(sessionId, name);
  }

  async forget(sessionId: string, name: string): Promise<void> {
    await this.#d.pods.delete(name, { uid: this.#d.watch.get(name)?.metadata?.uid });
    await this.#d.store.forget(name, sessionId);
    this.#known.delete(sessionId);
    this.#d.executors.forget(name);
  }

  close(): Promise<void> {
    return this.#keeper.close();
  }
}
