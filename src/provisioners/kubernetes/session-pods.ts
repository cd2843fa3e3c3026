import type { V1Pod } from "@kubernetes/client-node";
import { AppError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import type { Session } from "../../sessions/session.ts";
import { sandboxLimits } from "../sandbox-spec.ts";
import { KubernetesError, type KubernetesClient } from "./client.ts";
import { ATTEMPT, executorToken, podName, SESSION_CREATED_AT, SESSION_ID } from "./names.ts";
import { isAbandoned, podState, type PodState } from "./pod-state.ts";
import type { PodWatch } from "./pod-watch.ts";
import { podManifest, type PodSettings } from "./pod.ts";
import { asAppError } from "./refusal.ts";

export type SessionPodsOptions = Omit<PodSettings, "namespace"> & {
  /** What the tokens of all executors derive from; the same in every replica. */
  tokenSecret: string;
  /** A session whose Pod does not run after this long fails; here it fails a little earlier, with the cause. */
  startTimeoutMs: number;
  /** Whether the session has neither ended nor been deleted meanwhile. Absent: none does. */
  isLive?: ((session: Session) => Promise<boolean>) | undefined;
};

/** What one call waits for in one go; a Pod that takes longer is looked at again by the next resync. */
export const ENSURE_MS = 8000;
/** A Pod that ended sooner after its creation counts as a failed attempt. */
const SHORT_LIFE_MS = 60_000;
const MAX_ATTEMPTS = 3;

/** The Pods that are made for one session each, named after it. */
export class SessionPods {
  readonly #client: KubernetesClient;
  readonly #options: SessionPodsOptions;
  readonly #watch: PodWatch;
  readonly #log: Log;

  constructor(client: KubernetesClient, options: SessionPodsOptions, watch: PodWatch, log: Log) {
    this.#client = client;
    this.#options = options;
    this.#watch = watch;
    this.#log = log;
  }

  /** The session's Pod, whatever it is doing. Throws `bad_request` when one of its name is somebody else's. */
  find(sessionId: string): V1Pod | undefined {
    const pod = this.#watch.get(podName(sessionId));
    if (pod === undefined || pod.metadata?.annotations?.[SESSION_ID] === sessionId) return pod;
    throw new AppError("bad_request", `the Pod ${pod.metadata?.name} is not that of session ${sessionId}`);
  }

  /**
   * Takes the session's Pod from whatever it is to running, one observed state after the other. Throws
   * `executor_unavailable` when it does not run before the signal aborts, `session_ended` when the session has ended or was
   * deleted meanwhile, and a refusal when it never will.
   */
  async running(session: Session, limit: AbortSignal): Promise<V1Pod> {
    const name = podName(session.id);
    let waitsFor: string | null = null;
    let attempt = 1;
    while (!limit.aborted) {
      const news = this.#watch.changed(name, limit);
      const pod = this.find(session.id);
      if (pod === undefined) await this.#create(session, name, attempt);
      else if (isOfAnother(pod, session)) waitsFor = await this.#makeRoom(pod, session);
      else {
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

  /** What is left of a session that had the id before goes; whose own session is gone makes no room any more. */
  async #makeRoom(pod: V1Pod, session: Session): Promise<string> {
    await this.#checkLive(session);
    const { name = "", uid } = pod.metadata ?? {};
    if (podState(pod).kind !== "ending") await this.delete(name, { uid });
    return "the end of the Pod before it";
  }

  async #checkLive(session: Session): Promise<void> {
    if ((await this.#options.isLive?.(session)) !== false) return;
    throw new AppError("session_ended", `session ${session.id} has ended meanwhile`);
  }

  async #create(session: Session, name: string, attempt: number): Promise<void> {
    await this.#checkLive(session);
    const token = executorToken(this.#options.tokenSecret, name);
    const purpose = { sessionId: session.id, createdAt: session.created_at, attempt };
    const request = { purpose, name, image: session.image_url, limits: sandboxLimits(session), token };
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
      await this.delete(name, { uid, force: isAbandoned(pod, new Date()) });
    }
    return state.kind === "ending" ? "the end of the Pod before it" : null;
  }

  /** Asks for the end of a Pod, see KubernetesClient.deletePod. Throws AppError. */
  async delete(name: string, options: { uid?: string | undefined; force?: boolean }): Promise<void> {
    try {
      if (await this.#client.deletePod(name, options)) this.#log.info("pod.deleted", { pod: name });
    } catch (error) {
      throw asAppError(error, "the cluster refused to delete the Pod");
    }
  }
}

/** It was made for a session that had the id before, or has it since. */
function isOfAnother(pod: V1Pod, session: Session): boolean {
  return (pod.metadata?.annotations?.[SESSION_CREATED_AT] ?? session.created_at) !== session.created_at;
}
