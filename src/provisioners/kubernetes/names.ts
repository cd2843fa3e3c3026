import { createHash, createHmac, randomBytes } from "node:crypto";

/** Label of every Pod that a control plane made; with the value it is the selector by which they are found again. */
export const MANAGED_BY = { "app.kubernetes.io/managed-by": "sandbox-control-plane" } as const;
/** Annotation with the id of the session, since not every id is a label's value. */
export const SESSION_ID = "sandbox/session-id";
/** Annotation with when the session was created: another one may have had its id. */
export const SESSION_CREATED_AT = "sandbox/session-created-at";
/** Annotation with the number of the Pod among those of its session that were lost soon after they were made; from 1. */
export const ATTEMPT = "sandbox/attempt";

/** Annotations of a Pod that was started ahead: the pool that it is for, and the template whose pool that is. */
export const WARM_POOL = "sandbox/warm-pool";
export const TEMPLATE_ID = "sandbox/template-id";

/** Longest name that is also a host name. */
const MAX_NAME = 63;
const PLAIN = "sandbox-";
const HASHED = "session-";
const HASH_LENGTH = 16;

/**
 * The name of a session's Pod, a DNS-1123 label. An id that does not fit is shortened and carries a hash; the two kinds
 * start differently, so that no id can be chosen that has another one's name.
 */
export function podName(sessionId: string): string {
  const plain = PLAIN + sessionId;
  if (plain.length <= MAX_NAME && /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(sessionId)) return plain;
  const room = MAX_NAME - HASHED.length - HASH_LENGTH - 1;
  const shown = sessionId
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .slice(0, room)
    .replaceAll(/^-+|-+$/g, "");
  return `${HASHED}${shown === "" ? "x" : shown}-${sha256(sessionId).slice(0, HASH_LENGTH)}`;
}

/** A name for a Pod that is nobody's yet; none of a session's is like it. */
export function newWarmName(): string {
  return `warm-${randomBytes(12).toString("hex")}`;
}

/** The token of a Pod's executor, 64 hexadecimal digits: every replica can derive it, and no Pod another one's. */
export function executorToken(secret: string, pod: string): string {
  return createHmac("sha256", secret).update(`executor-token:${pod}`).digest("hex");
}

const FIRST_UID = 1_000_000;
const UIDS = 1_000_000_000;

/**
 * The user that a Pod's processes run as: one of its own in all likelihood, so that what the kernel counts by user
 * (processes, signals, watches) is not shared between sessions on a node.
 */
export function podUid(pod: string): number {
  return FIRST_UID + (Number.parseInt(sha256(pod).slice(0, 12), 16) % UIDS);
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
