import type { V1Pod } from "@kubernetes/client-node";
import { AppError } from "../../errors.ts";
import type { HttpExecutor } from "../../executor/client.ts";
import type { Check, EgressDecision, Executor, Layer, LayerRequest, SandboxState } from "../../executor/protocol.ts";
import type { Log } from "../../log.ts";
import { sameLayerRequest } from "../../sessions/dependencies.ts";
import type { Session } from "../../sessions/session.ts";
import type { Template } from "../../templates/template.ts";
import { within } from "../../within.ts";
import type { OpenTunnel, Provisioned, Provisioner } from "../provisioner.ts";
import { sandboxSpec } from "../sandbox-spec.ts";
import type { WarmPodStore } from "../warm-pod.ts";
import { KubernetesError, type KubernetesClient } from "./client.ts";
import { MANAGED_BY, podName, SESSION_ID } from "./names.ts";
import { PodLayers, type LayerShelf } from "./pod-layers.ts";
import { PodExecutors, type PodExecutorSettings } from "./pod-executors.ts";
import { PodEnds } from "./pod-ends.ts";
import { podState } from "./pod-state.ts";
import { PodWatch } from "./pod-watch.ts";
import { ENSURE_MS, SessionPods, type SessionPodsOptions } from "./session-pods.ts";
import { WarmPods } from "./warm-pods.ts";

export type KubernetesProvisionerOptions = SessionPodsOptions &
  PodExecutorSettings & {
    /** Executions that run at once in a session. */
    maxRunning: number;
    /** Fills the workspace of a session that ran before, in an executor that may be new. */
    restore(session: Session, executor: Executor): Promise<void>;
    /** Layers that other Pods have built. */
    shelf: LayerShelf;
    /** Keeps Pods started ahead, for sessions that may have so many processes. Absent: none. */
    warm?: { store: WarmPodStore; maxProcesses: number };
  };

/** How long the executor may take to end a sandbox that is released, before its Pod is deleted all the same. */
const END_MS = 2000;
const SYNC_MS = 10_000;

type Answering = { pod: V1Pod; pool: SandboxState["pool"]; runningMs: number };

/** The cluster: one Pod a session, with an executor in it that keeps its one sandbox. */
export class KubernetesProvisioner implements Provisioner {
  readonly keepsWorkspaces = false;
  readonly #client: KubernetesClient;
  readonly #options: KubernetesProvisionerOptions;
  readonly #watch: PodWatch;
  readonly #pods: SessionPods;
  readonly #executors: PodExecutors;
  readonly #layers: PodLayers;
  readonly #warm: WarmPods | null;
  readonly #ends = new PodEnds();

  constructor(client: KubernetesClient, options: KubernetesProvisionerOptions, log: Log) {
    this.#client = client;
    this.#options = options;
    const selector = Object.entries(MANAGED_BY).map((pair) => pair.join("="));
    this.#watch = new PodWatch(client, selector.join(","), log, (...change) => this.#ends.note(...change));
    this.#pods = new SessionPods(client, options, this.#watch, log);
    this.#executors = new PodExecutors(this.#watch, options);
    this.#layers = new PodLayers({ ...options, log });
    const settings = { ...options, namespace: client.namespace };
    const parts = { client, watch: this.#watch, executors: this.#executors, pods: this.#pods, log, settings };
    this.#warm = options.warm === undefined ? null : new WarmPods({ ...options, ...options.warm, ...parts });
    this.#watch.start();
  }

  /** Stops watching and starting ahead; Pods go on. */
  async close(): Promise<void> {
    await this.#warm?.close();
    await this.#watch.stop();
  }

  async ensure(session: Session, signal?: AbortSignal): Promise<Provisioned> {
    await this.#watch.synced(SYNC_MS);
    const enough = AbortSignal.timeout(ENSURE_MS);
    const limit = signal === undefined ? enough : AbortSignal.any([enough, signal]);
    const startedMs = performance.now();
    const { pod, pool, runningMs } = await this.#answering(session, limit);
    const readyMs = performance.now();
    const executor = this.#executors.at(pod);
    // Files come before anything can run: a session that is new has none.
    if (session.status === "running") await this.#options.restore(session, executor);
    const restoredMs = performance.now();
    const hasPackages = session.installed_dependencies.length > 0;
    const isNew = session.status === "creating";
    const same = sameLayerRequest(session);
    const layers = hasPackages ? [(await this.#layers.ensure(executor, pod, same, isNew)).name] : [];
    const installedMs = performance.now();
    const spec = { ...sandboxSpec(session, this.#options.maxRunning), layers };
    const made = await executor.createSandbox(session.id, spec);
    const timing = {
      ...made.timing,
      pod: runningMs - startedMs,
      executor: readyMs - runningMs,
      restore: restoredMs - readyMs,
      install: installedMs - restoredMs,
    };
    const sandbox = { ...made, pool, timing };
    return {
      executor,
      sandbox,
      runtimeNode: pod.spec?.nodeName ?? null,
      containerId: pod.status?.containerStatuses?.[0]?.containerID ?? null,
      podName: pod.metadata?.name ?? null,
    };
  }

  /** The session's Pod, whose executor answers: one that was started ahead, else its own. */
  async #answering(session: Session, limit: AbortSignal): Promise<Answering> {
    const isOwn = this.#pods.find(session.id) !== undefined;
    const taken = isOwn ? null : ((await this.#warm?.take(session)) ?? null);
    if (taken !== null && taken !== "miss") return { pod: taken, pool: "hit", runningMs: performance.now() };
    for (;;) {
      const pod = await this.#pods.running(session, limit);
      const runningMs = performance.now();
      if (await this.#executors.answers(pod, limit)) return { pod, pool: taken, runningMs };
    }
  }

  async ensureLayer(session: Session, request: LayerRequest): Promise<Layer> {
    await this.#watch.synced(SYNC_MS);
    const { pod } = await this.#answering(session, AbortSignal.timeout(ENSURE_MS));
    return this.#layers.ensure(this.#executors.at(pod), pod, request, session.status === "creating");
  }

  async openTunnel(session: Session, decided: (decision: EgressDecision) => void): Promise<OpenTunnel> {
    return (await this.executorOf(session.id)).openTunnel("sandbox", { allow: session.network }, decided);
  }

  async executorOf(sessionId: string): Promise<HttpExecutor> {
    this.#watch.checkFresh();
    const name = await this.#nameOf(sessionId);
    const pod = this.#watch.get(name);
    if (pod === undefined) throw new AppError("session_not_found", `there is no Pod ${name}`);
    const state = podState(pod);
    if (state.kind === "running" || (state.kind === "ending" && state.address !== null)) return this.#executors.at(pod);
    if (state.kind === "starting")
      throw new AppError("executor_unavailable", `the Pod ${name} does not run yet`, { retryAfterS: 1 });
    throw new AppError("session_not_found", state.reason);
  }

  async lossOf(sessionId: string, since: Date): Promise<string | null> {
    const warm = this.#warm?.lastNameOf(sessionId) ?? null;
    const ofWarm = warm === null ? null : this.#ends.reasonOf(warm, since);
    return ofWarm ?? this.#ends.reasonOf(podName(sessionId), since);
  }

  /** Name of the session's Pod, also of one that it does not have yet. */
  async #nameOf(sessionId: string): Promise<string> {
    if (this.#pods.find(sessionId) !== undefined) return podName(sessionId);
    return (await this.#warm?.nameOf(sessionId)) ?? podName(sessionId);
  }

  /** Any image that a registry may have: only its node can tell whether it can be pulled. */
  async checkImage(imageUrl: string): Promise<void> {
    if (IMAGE.test(imageUrl)) return;
    throw new AppError("image_unknown", `${imageUrl.slice(0, 100)} is not an image reference`);
  }

  /** The files of a session end with its Pod, whatever `deleteWorkspace` says. */
  async release(sessionId: string, _options: { deleteWorkspace: boolean }): Promise<void> {
    const name = await this.#nameOf(sessionId);
    const pod = this.#watch.get(name);
    // Executions end at once, and their readers get the last entries before the Pod goes.
    if (pod !== undefined && podState(pod).kind === "running") await ended(this.#executors.at(pod), sessionId);
    await this.#warm?.release(sessionId);
    await this.#pods.delete(podName(sessionId), { uid: this.#pods.find(sessionId)?.metadata?.uid });
    this.#executors.forget(name);
  }

  async keepWarm(templates: readonly Template[]): Promise<void> {
    await this.#watch.synced(SYNC_MS);
    await this.#warm?.keep(templates);
  }

  async warmSizes(): Promise<Record<string, number>> {
    return (await this.#warm?.sizes()) ?? {};
  }

  /** Asks the API itself: what the watch knows is good for a while without it. */
  async checks(): Promise<Check[]> {
    const name = "kubernetes";
    try {
      const { body } = await this.#client.call("GET", "/version");
      const { gitVersion } = body as { gitVersion: string };
      const found = `${gitVersion}, namespace ${this.#client.namespace}, ${[...this.#watch.all()].length} Pods`;
      return [{ name, ok: true, found }];
    } catch (error) {
      if (!(error instanceof KubernetesError)) throw error;
      return [{ name, ok: false, found: error.message }];
    }
  }

  /** A Pod that does not run yet counts as lost, so that its session is looked after until it does. */
  async list(): Promise<Map<string, SandboxState["status"]>> {
    await this.#watch.synced(SYNC_MS);
    const found = new Map<string, SandboxState["status"]>();
    const statusOf = (pod: V1Pod | undefined) =>
      pod !== undefined && podState(pod).kind === "running" ? "running" : "lost";
    for (const [sessionId, name] of (await this.#warm?.sessions()) ?? [])
      found.set(sessionId, statusOf(this.#watch.get(name)));
    for (const pod of this.#watch.all()) {
      const sessionId = pod.metadata?.annotations?.[SESSION_ID];
      if (sessionId !== undefined) found.set(sessionId, statusOf(pod));
    }
    return found;
  }
}

/** [registry[:port]/]path[:tag][@digest] */
const IMAGE =
  /^(?:[A-Za-z0-9.-]+(?::\d{1,5})?\/)?[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*(?::\w[\w.-]{0,127})?(?:@[a-z0-9]+:[a-f0-9]{32,128})?$/;

/** Ends the sandbox, if its executor can be reached: its Pod goes all the same. */
async function ended(executor: Executor, sessionId: string): Promise<void> {
  await within(END_MS, executor.deleteSandbox(sessionId, { deleteWorkspace: false })).catch(() => {});
}
