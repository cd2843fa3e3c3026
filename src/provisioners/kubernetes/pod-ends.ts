import type { V1Pod } from "@kubernetes/client-node";
import { podState } from "./pod-state.ts";

/** Ends that are remembered: those of sessions that run are asked for within seconds. */
const MAX_KEPT = 2000;

type End = { uid: string; reason: string; atMs: number };

/** Why Pods ended, as the cluster said it first; kept when they are gone, since executions are told later. */
export class PodEnds {
  readonly #ends = new Map<string, End>();

  /** See PodWatch: hears of each change of a Pod. */
  note(name: string, pod: V1Pod | null, before: V1Pod | undefined): void {
    const last = pod ?? before;
    if (last === undefined) return;
    const uid = last.metadata?.uid ?? "";
    if (this.#ends.get(name)?.uid === uid) return;
    const state = podState(last);
    const hasEnded = state.kind === "ended" || state.kind === "ending" || state.kind === "unstartable";
    if (hasEnded) this.#set(name, { uid, reason: state.reason, atMs: Date.now() });
    else if (pod === null) this.#set(name, { uid, reason: "the Pod was deleted", atMs: Date.now() });
  }

  #set(name: string, end: End): void {
    this.#ends.delete(name);
    this.#ends.set(name, end);
    const [oldest] = this.#ends.keys();
    if (this.#ends.size > MAX_KEPT && oldest !== undefined) this.#ends.delete(oldest);
  }

  /** Why the last Pod of this name ended, if it did after `since`. */
  reasonOf(name: string, since: Date): string | null {
    const end = this.#ends.get(name);
    return end === undefined || end.atMs < since.getTime() ? null : end.reason;
  }
}
