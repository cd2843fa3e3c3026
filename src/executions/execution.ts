import type { Artifact, EndReason, Language, Metrics, TerminalStatus } from "../executor/protocol.ts";
import type { RawJson } from "../json-text.ts";
import type { AgedPage, Lease, Listed, Page } from "../sessions/session.ts";

export type ExecutionStatus = "pending" | "running" | TerminalStatus;
export const LIVE_STATUSES: readonly ExecutionStatus[] = ["pending", "running"];

/** Whether it still waits or runs. */
export function isLive(execution: Pick<Execution, "status">): boolean {
  return execution.status === "pending" || execution.status === "running";
}

/** Code run once in a session. Field names are the wire's (contract, Executions). */
export type Execution = {
  id: string;
  session_id: string;
  tenant: string;
  status: ExecutionStatus;
  code: string;
  language: Language;
  /** Seconds. */
  timeout: number;
  /** Null: none, or the JSON word. */
  event: RawJson | null;
  stdin: string;
  exit_code: number | null;
  reason: EndReason | null;
  error_message: string | null;
  /** Seconds from start to end; null until it ended. */
  execution_time: number | null;
  stdout: string;
  stderr: string;
  stdout_bytes: number;
  stderr_bytes: number;
  stdout_truncated: boolean;
  stderr_truncated: boolean;
  /** Null: none, or the JSON word. */
  return_value: RawJson | null;
  artifacts: Artifact[];
  metrics: Metrics | null;
  env_vars: Record<string, string>;
  retry_count: number;
  created_at: string;
  started_at: string | null;
  completed_at: string | null;
  idempotency_key: string | null;
  /** Number of the last journal entry; null until it ended. `journaled` is false when no executor ever accepted it. */
  last_seq: number | null;
  journaled: boolean;
  /** Milliseconds that each phase took, for Server-Timing. */
  timing: Record<string, number>;
};

/** Without the large columns: what lists and the scheduler need. */
export type ExecutionFields = Partial<Omit<Execution, "id" | "session_id" | "tenant" | "code">>;

/** An execution that is to be deleted; `bytes`: how large it is, about. */
export type AgedExecution = { id: string; sessionId: string; bytes: number };

/** The records of executions. Instants (`now`, `before`) are ISO 8601. */
export interface ExecutionStore {
  /**
   * Throws `idempotency_conflict` when the session has an execution with the same key (the caller then reads that one),
   * `session_not_found` when there is no such session.
   */
  insert(execution: Execution, lease: Lease): Promise<void>;
  get(id: string): Promise<Execution | null>;
  findByIdempotencyKey(sessionId: string, key: string): Promise<Execution | null>;
  /** Ids, newest first: a record may hold megabytes of output. */
  ids(sessionId: string, page: Page): Promise<Listed<string>>;
  /** Writes the given fields, and only while the status is one of `from`. False when it was not. */
  update(id: string, fields: ExecutionFields, from: readonly ExecutionStatus[]): Promise<boolean>;
  /** Live executions of a session, or of a tenant's sessions. */
  countLive(by: { sessionId: string } | { tenant: string }): Promise<number>;
  /** Those of a session, some at a time, so that others are served meanwhile. */
  deleteBySession(sessionId: string): Promise<void>;
  /** Some at a time, as `deleteBySession`. */
  delete(executions: readonly Pick<AgedExecution, "id" | "bytes">[]): Promise<void>;
  /** Of the `limit` oldest executions after `after`, those that ended before `before`. */
  endedBefore(before: string, after: number, now: string, limit: number): Promise<AgedPage<AgedExecution>>;
  /** Those of the ids that are live. */
  liveAmong(ids: readonly string[]): Promise<string[]>;
  claim(id: string, lease: Lease, now: string): Promise<boolean>;
  /** Extends the owner's leases on those of the executions that are live. */
  renew(ids: readonly string[], lease: Lease): Promise<void>;
  /** Frees the leases of an owner's live executions; with null those of all, for a process that knows that no other lives. */
  releaseAll(owner: string | null): Promise<void>;
  /** Live executions that nobody has, oldest first; `isExpired`: their owner did not give them up, but stopped renewing. */
  unowned(now: string, limit: number): Promise<{ id: string; isExpired: boolean }[]>;
  /** How many executions are in each live status, of all tenants. */
  liveByStatus(): Promise<Record<"pending" | "running", number>>;
}
