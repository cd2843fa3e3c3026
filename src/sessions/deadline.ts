import type { Session } from "./session.ts";

/** Bounds over every session's own timeout, in milliseconds; null is off. */
export type LifetimeBounds = { idleMs: number | null; lifetimeMs: number | null };

/** A last use that is this much in the future was noted by a clock that has been set back since, in milliseconds. */
export const AHEAD_MS = 60_000;

/** When a session ends if it is not used again: its timeout after the last use, within the operator's bounds. */
export function deadlineOf(
  session: Pick<Session, "created_at" | "timeout">,
  lastActivity: Date,
  bounds: LifetimeBounds,
): string {
  const idleMs = Math.min(session.timeout * 1000, bounds.idleMs ?? Number.POSITIVE_INFINITY);
  const lifeEnd =
    bounds.lifetimeMs === null ? Number.POSITIVE_INFINITY : Date.parse(session.created_at) + bounds.lifetimeMs;
  return new Date(Math.min(lastActivity.getTime() + idleMs, lifeEnd)).toISOString();
}
