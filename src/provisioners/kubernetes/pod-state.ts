import type { V1ContainerStatus, V1Pod } from "@kubernetes/client-node";
import { CONTAINER } from "./pod.ts";

/** What a Pod's status means for its session. `reason` is for people: it becomes the session's `error_message`. */
export type PodState =
  /** `waitsFor`: what it waits for, once the cluster has said so. */
  | { kind: "starting"; waitsFor: string | null }
  | { kind: "running"; address: string }
  /** It never will run. `isImage`: for want of its image. */
  | { kind: "unstartable"; reason: string; isImage: boolean }
  /** Its deletion was asked for; it may still answer at `address`. */
  | { kind: "ending"; reason: string; address: string | null }
  /** It ran, or was to, and has ended. */
  | { kind: "ended"; reason: string };

/** Waiting reasons that no waiting changes. The first failed pull (ErrImagePull) is tried again by the kubelet. */
const NO_IMAGE = new Set(["ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"]);
const NO_CONTAINER = new Set([
  "CreateContainerConfigError",
  "CreateContainerError",
  "RunContainerError",
  "CrashLoopBackOff",
]);
/** Said by registries about an image that is not there or not for us. */
const PULL_REFUSED = /not found|does not exist|manifest unknown|unauthorized|denied|invalid reference/i;
const MAX_REASON = 500;
/** How long after the end of its grace a Pod's node may take to confirm its end. */
const ABANDONED_MS = 10_000;

/** What the cluster last told of a Pod, as one of the states. Pure. */
export function podState(pod: V1Pod): PodState {
  const { status } = pod;
  const address = status?.podIP ?? null;
  const hasEnded = status?.phase === "Failed" || status?.phase === "Succeeded";
  if (pod.metadata?.deletionTimestamp !== undefined)
    return { kind: "ending", reason: endReason(pod), address: hasEnded ? null : address };
  if (hasEnded) return { kind: "ended", reason: endReason(pod) };
  const containers = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])];
  for (const container of containers) {
    const unstartable = whyUnstartable(container);
    if (unstartable !== null) return unstartable;
  }
  const main = status?.containerStatuses?.find((one) => one.name === CONTAINER);
  if (main?.state?.terminated !== undefined) return { kind: "ended", reason: endReason(pod) };
  if (main?.state?.running !== undefined && address !== null) return { kind: "running", address };
  return { kind: "starting", waitsFor: whatItWaitsFor(pod, containers) };
}

function whyUnstartable(container: V1ContainerStatus): PodState | null {
  const { reason = "", message } = container.state?.waiting ?? {};
  const isRefused = reason === "ErrImagePull" && PULL_REFUSED.test(message ?? "");
  const isImage = NO_IMAGE.has(reason) || isRefused;
  if (!isImage && !NO_CONTAINER.has(reason)) return null;
  const what = isImage ? `the image ${container.image} can't be pulled` : "the container can't be started";
  return { kind: "unstartable", reason: sentence(what, reason, message), isImage };
}

function whatItWaitsFor(pod: V1Pod, containers: V1ContainerStatus[]): string | null {
  const scheduled = pod.status?.conditions?.find((one) => one.type === "PodScheduled");
  if (scheduled?.status === "False") return sentence("no node takes the Pod", scheduled.reason, scheduled.message);
  const waiting = containers.map((one) => one.state?.waiting).find((one) => one?.message !== undefined);
  return waiting === undefined ? null : sentence("the container waits", waiting.reason, waiting.message);
}

/** Why a Pod ended: what the cluster says of its end, else what its containers say. */
function endReason(pod: V1Pod): string {
  const { status } = pod;
  const disruption = status?.conditions?.find((one) => one.type === "DisruptionTarget" && one.status === "True");
  if (status?.reason === "Evicted") return sentence("the Pod was evicted", "", status.message);
  if (status?.reason === "NodeLost") return sentence("the Pod's node was lost", "", status.message);
  if (disruption?.reason === "DeletionByTaintManager")
    return sentence("the Pod's node was lost or tainted", disruption.reason, disruption.message);
  if (disruption !== undefined) return sentence("the Pod was evicted", disruption.reason, disruption.message);
  if ((status?.reason ?? "") !== "") return sentence("the Pod failed", status?.reason, status?.message);
  const containers = [...(status?.containerStatuses ?? []), ...(status?.initContainerStatuses ?? [])];
  const failed = containers.find((one) => one.state?.terminated !== undefined && one.state.terminated.exitCode !== 0);
  const end = failed?.state?.terminated;
  if (end?.reason === "OOMKilled") return "the Pod ran out of memory";
  if (end !== undefined)
    return sentence(`the container ${failed?.name} ended with ${end.exitCode}`, end.reason, end.message);
  return pod.metadata?.deletionTimestamp === undefined ? "the Pod ended" : "the Pod was deleted";
}

function sentence(what: string, reason: string | undefined, message: string | undefined): string {
  const said = [reason, message].filter((one) => one !== undefined && one !== "").join(": ");
  const plain = said.replaceAll(/\s+/g, " ").trim();
  return (plain === "" ? what : `${what} (${plain})`).slice(0, MAX_REASON);
}

/** Whether the cluster gave the Pod up although its node has not confirmed its end: it can then only be forgotten. */
export function isAbandoned(pod: V1Pod, now: Date): boolean {
  const { deletionTimestamp } = pod.metadata ?? {};
  return deletionTimestamp !== undefined && now.getTime() - new Date(deletionTimestamp).getTime() > ABANDONED_MS;
}
