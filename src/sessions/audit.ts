import type { EgressDecision } from "../executor/protocol.ts";

/** What was decided outside the executor, by session. Goes with the session's record. */
export interface AuditStore {
  /** Adds it, unless there is no such session. */
  add(sessionId: string, decision: EgressDecision): Promise<void>;
  /** Newest first; the last AUDIT_KEPT of a session at most. */
  list(sessionId: string): Promise<EgressDecision[]>;
}

/** Decisions of a session that are kept. */
export const AUDIT_KEPT = 2000;
