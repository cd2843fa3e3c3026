import { setTimeout as delay } from "node:timers/promises";
import type { V1Pod } from "@kubernetes/client-node";
import { AppError } from "../../errors.ts";
import { HttpExecutor } from "../../executor/client.ts";
import type { Check, Executor, SandboxState } from "../../executor/protocol.ts";
import type { Log } from "../../log.ts";
import type { Session } from "../../sessions/session.ts";
import type { Provisioned, Provisioner } from "../provisioner.ts";
import { sandboxSpec } from "../sandbox-spec.ts";
import { KubernetesError, type KubernetesClient } from "./client.ts";
import { ATTEMPT, executorToken, MANAGED_BY, podName, SESSION_ID } from "./names.ts";
import { isAbandoned, podState, type PodState } from "./pod-state.ts";
import { PodWatch } from "./pod-watch.ts";
import { EXECUTOR_PORT, podManifest, type PodSettings } from "./pod.ts";

export type KubernetesProvisionerOptions = Omit<PodSettings, "namespace"> & {
  /** What the tokens of all executors derive from; the same in every replica. */
  tokenSecret: string;
  /** Executions that run at once in a session. */
  maxRunning: number;
  /** A session whose Pod does not run after this long fails; here it fails a little earlier, with the cause. */
  startTimeoutMs: number;
};

/** What `ensure` waits for in one go; a Pod that takes longer is looked at again by the next resync. */
const ENSURE_MS = 8000;
/** How long the executor may take to end a sandbox that is released, before its Pod is deleted all the same. */
const END_MS = 2000;
const HEALTH_MS = 1000;
const CONNECT_RETRY_MS = { first: 2, longest: 50 };
const SYNC_MS = 10_000;
/** A Pod that ended sooner after its creation counts as a failed attempt. */
const SHORT_LIFE_MS = 60_000;
const MAX_ATTEMPTS = 3;

/** The cluster: one Pod a session, with an executor in it that keeps its one sandbox. */
export class KubernetesProvisioner implements Provisioner {
  readonly #client: KubernetesClient;
  readonly #options: KubernetesProvisionerOptions;
  readonly #watch: PodWatch;
  readonly #executors = new Map<string, { uid: string; address: string; executor: HttpExecutor }>();
  readonly #log: Log;

  constructor(client: KubernetesClient, options: KubernetesProvisionerOptions, log: Log) {
    this.#client = client;
    this.#options = options;
    this.#log = log;
    const selector = Object.entries(MANAGED_BY).map((pair) => pair.join("="));
    this.#watch = new PodWatch(client, selector.join(","), log);
    this.#watch.start();
  }

  /** Stops watching; Pods go on. */
  close(): Promise<void> {
    return this.#watch.stop();
  }

  async ensure(session: Session): Promise<Provisioned> {
    await this.#watch.synced(SYNC_MS);
    const limit = AbortSignal.timeout(ENSURE_MS);
    const startedMs = performance.now();
    let runningMs: number;
    let pod: V1Pod;
    let executor: HttpExecutor;
    do {
      pod = await this.#runningPod(session, limit);
      runningMs = performance.now();
      executor = this.#executorAt(pod);
    } while (!(await this.#answers(executor, pod, limit)));
    const readyMs = performance.now();
    const sandbox = await executor.createSandbox(session.id, sandboxSpec(session, this.#options.maxRunning));
    const timing = { ...sandbox.timing, pod: runningMs - startedMs, executor: readyMs - runningMs };
    return {
      executor,
      sandbox: { ...sandbox, timing },
      runtimeNode: pod.spec?.nodeName ?? null,
      containerId: pod.status?.containerStatuses?.[0]?.containerID ?? null,
      podName: pod.metadata?.name ?? null,
    };
  }

  /** Takes the session's Pod from whatever it is to running, one observed state after the other. */
  async #runningPod(session: Session, limit: AbortSignal): Promise<V1Pod> {
    const name = podName(session.id);
    let waitsFor: string | null = null;
    let attempt = 1;
    while (!limit.aborted) {
      const news = this.#watch.changed(name, limit);
      const pod = this.#watch.get(name);
      if (pod === undefined) await this.#create(session, name, attempt);
      else {
        checkOwner(pod, session.id);
        const state = podState(pod);
        if (state.kind === "running") return pod;
        attempt = this.#nextAttempt(pod, state, session);
        waitsFor = await this.#moveOn(pod, state);
      }
      await news;
    }
    const why = waitsFor === null ? "" : `: ${waitsFor}`;
    throw new AppError("executor_unavailable", `the Pod ${name} does not run yet${why}`, { retryAfterS: 1 });
  }

  async #create(session: Session, name: string, attempt: number): Promise<void> {
    const token = executorToken(this.#options.tokenSecret, name);
    const { limits } = sandboxSpec(session, this.#options.maxRunning);
    const request = { sessionId: session.id, name, image: session.image_url, limits, token, attempt };
    const settings = { ...this.#options, namespace: this.#client.namespace };
    try {
      await this.#client.createPod(podManifest(request, settings));
      this.#log.info("pod.created", { session_id: session.id, pod: name, attempt });
    } catch (error) {
      if (error instanceof KubernetesError && error.reason === "AlreadyExists") return;
      throw asAppError(error, "the cluster refused the Pod");
    }
  }

  /** The number that the Pod after this one gets. Throws when there must be none: a refusal with the reason of its end. */
  #nextAttempt(pod: V1Pod, state: PodState, session: Session): number {
    const ageMs = Date.now() - new Date(pod.metadata?.creationTimestamp ?? Date.now()).getTime();
    const attempt = Number(pod.metadata?.annotations?.[ATTEMPT] ?? 1);
    if (state.kind === "unstartable") throw new AppError(state.isImage ? "image_unknown" : "bad_request", state.reason);
    if (state.kind === "starting") {
      const { startTimeoutMs } = this.#options;
      if (ageMs <= Math.max(startTimeoutMs - 2 * ENSURE_MS, startTimeoutMs / 2)) return attempt;
      const seconds = Math.round(ageMs / 1000);
      throw new AppError(
        "bad_request",
        `the Pod did not run after ${seconds} s: ${state.waitsFor ?? "no cause was said"}`,
      );
    }
    if (state.kind === "running" || ageMs > SHORT_LIFE_MS) return 1;
    if (state.kind === "ended" && (session.status === "creating" || attempt >= MAX_ATTEMPTS))
      throw new AppError("bad_request", state.reason);
    return attempt + 1;
  }

  /** Does what the state asks for; returns what the Pod waits for, if the cluster said it. */
  async #moveOn(pod: V1Pod, state: PodState): Promise<string | null> {
    const { name = "", uid } = pod.metadata ?? {};
    if (state.kind === "starting") return state.waitsFor;
    if (state.kind === "ended" || isAbandoned(pod, new Date())) {
      this.#log.warn("pod.replaced", {
        pod: name,
        because: state.kind === "ended" ? state.reason : "its node is silent",
      });
      await this.#delete(name, { uid, force: isAbandoned(pod, new Date()) });
    }
    return state.kind === "ending" ? "the end of the Pod before it" : null;
  }

  /**
   * True when the executor answers: the moment its container has started, it is about to listen. False when its Pod does
   * not run any more.
   */
  async #answers(executor: HttpExecutor, pod: V1Pod, limit: AbortSignal): Promise<boolean> {
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

  async executorOf(sessionId: string): Promise<Executor> {
    this.#watch.checkFresh();
    const name = podName(sessionId);
    const pod = this.#watch.get(name);
    if (pod === undefined) throw new AppError("session_not_found", `there is no Pod ${name}`);
    checkOwner(pod, sessionId);
    const state = podState(pod);
    if (state.kind === "running" || (state.kind === "ending" && state.address !== null)) return this.#executorAt(pod);
    if (state.kind === "starting")
      throw new AppError("executor_unavailable", `the Pod ${name} does not run yet`, { retryAfterS: 1 });
    throw new AppError("session_not_found", state.reason);
  }

  /** One client for each Pod and address: it keeps connections. */
  #executorAt(pod: V1Pod): HttpExecutor {
    const { name = "", uid = "" } = pod.metadata ?? {};
    const address = pod.status?.podIP ?? "";
    const known = this.#executors.get(name);
    if (known?.uid === uid && known.address === address) return known.executor;
    const host = address.includes(":") ? `[${address}]` : address;
    const token = executorToken(this.#options.tokenSecret, name);
    const executor = new HttpExecutor({ url: `http://${host}:${EXECUTOR_PORT}`, token });
    for (const old of this.#executors.keys()) if (this.#watch.get(old) === undefined) this.#executors.delete(old);
    this.#executors.set(name, { uid, address, executor });
    return executor;
  }

  /** Any image that a registry may have: only its node can tell whether it can be pulled. */
  async checkImage(imageUrl: string): Promise<void> {
    if (IMAGE.test(imageUrl)) return;
    throw new AppError("image_unknown", `${imageUrl.slice(0, 100)} is not an image reference`);
  }

  /** The files of a session end with its Pod, whatever `deleteWorkspace` says. */
  async release(sessionId: string, _options: { deleteWorkspace: boolean }): Promise<void> {
    const name = podName(sessionId);
    const pod = this.#watch.get(name);
    if (pod !== undefined) {
      checkOwner(pod, sessionId);
      // Executions end at once, and their readers get the last entries before the Pod goes.
      if (podState(pod).kind === "running") await ended(this.#executorAt(pod), sessionId);
    }
    await this.#delete(name, { uid: pod?.metadata?.uid });
    this.#executors.delete(name);
  }

  async #delete(name: string, options: { uid?: string | undefined; force?: boolean }): Promise<void> {
    try {
      if (await this.#client.deletePod(name, options)) this.#log.info("pod.deleted", { pod: name });
    } catch (error) {
      throw asAppError(error, "the cluster refused to delete the Pod");
    }
  }

  async checks(): Promise<Check[]> {
    await this.#watch.synced(SYNC_MS);
    const found = `namespace ${this.#client.namespace}, ${[...this.#watch.all()].length} Pods`;
    return [{ name: "kubernetes", ok: true, found }];
  }

  /** A Pod that does not run yet counts as lost, so that its session is looked after until it does. */
  async list(): Promise<Map<string, SandboxState["status"]>> {
    await this.#watch.synced(SYNC_MS);
    const found = new Map<string, SandboxState["status"]>();
    for (const pod of this.#watch.all()) {
      const sessionId = pod.metadata?.annotations?.[SESSION_ID];
      if (sessionId !== undefined) found.set(sessionId, podState(pod).kind === "running" ? "running" : "lost");
    }
    return found;
  }
}

/** [registry[:port]/]path[:tag][@digest] */
const IMAGE =
  /^(?:[A-Za-z0-9.-]+(?::\d{1,5})?\/)?[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*(?::\w[\w.-]{0,127})?(?:@[a-z0-9]+:[a-f0-9]{32,128})?$/;

/** A Pod of this name that is not the session's is somebody's own doing; it is left alone. */
function checkOwner(pod: V1Pod, sessionId: string): void {
  if (pod.metadata?.annotations?.[SESSION_ID] === sessionId) return;
  throw new AppError("bad_request", `the Pod ${pod.metadata?.name} is not that of session ${sessionId}`);
}

/** Ends the sandbox, if its executor can be reached. */
async function ended(executor: HttpExecutor, sessionId: string): Promise<void> {
  const end = executor.deleteSandbox(sessionId, { deleteWorkspace: false }).catch(() => {});
  const enough = new AbortController();
  await Promise.race([end, delay(END_MS, undefined, { signal: enough.signal }).catch(() => {})]);
  enough.abort();
}

/** What of the API server's refusals another try may change is `executor_unavailable`; quota and policy are not. */
function asAppError(error: unknown, what: string): unknown {
  if (!(error instanceof KubernetesError)) return error;
  const { status, message } = error;
  const isPassing = status === 0 || status === 401 || status === 429 || status >= 500 || error.reason === "Conflict";
  if (isPassing) return new AppError("executor_unavailable", `${what}: ${message}`, { cause: error, retryAfterS: 1 });
  return new AppError("bad_request", `${what}: ${message}`.slice(0, 1000), { cause: error });
}
