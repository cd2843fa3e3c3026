import { Type } from "@sinclair/typebox";
import type { Execution } from "../executions/execution.ts";
import { LANGUAGES } from "../executor/protocol.ts";
import { Instant, oneOf, orNull } from "./schemas.ts";

const Artifact = Type.Object(
  {
    path: Type.String({ description: "Relative to the workspace." }),
    size: Type.Integer(),
    mime_type: Type.String(),
    type: oneOf(["created", "modified"]),
    sha256: Type.Optional(Type.String()),
  },
  { $id: "Artifact" },
);

const Metrics = Type.Object(
  {
    duration_ms: Type.Number(),
    cpu_time_ms: Type.Number(),
    peak_memory_mb: Type.Number(),
    io_read_bytes: Type.Number(),
    io_write_bytes: Type.Number(),
  },
  { $id: "Metrics" },
);

const ended = {
  id: Type.String({ examples: ["exec_20260131120000_0a1b2c3d"] }),
  session_id: Type.String(),
  status: oneOf(["pending", "running", "completed", "failed", "timeout", "crashed", "cancelled"]),
  language: oneOf(LANGUAGES),
  timeout: Type.Integer({ description: "Seconds." }),
  exit_code: orNull(Type.Integer()),
  reason: orNull(
    Type.String({
      description:
        "Which limit or event ended it; null while it lives and when the program ended by itself with success.",
      examples: ["timeout", "memory_limit", "exception", "exit_code", "cancelled", "executor_lost"],
    }),
  ),
  error_message: orNull(Type.String()),
  execution_time: orNull(Type.Number({ description: "Seconds from start to end." })),
  stdout_bytes: Type.Integer({ description: "True count, also of what was cut." }),
  stderr_bytes: Type.Integer({ description: "True count, also of what was cut." }),
  stdout_truncated: Type.Boolean(),
  stderr_truncated: Type.Boolean(),
  return_value: Type.Unknown({ description: "What `handler` returned; null without a handler." }),
  artifacts: Type.Array(Artifact),
  metrics: orNull(Metrics),
  env_vars: Type.Record(Type.String(), Type.String()),
  retry_count: Type.Integer(),
  created_at: Instant,
  started_at: orNull(Instant),
  completed_at: orNull(Instant),
};

export const EndedView = Type.Object(ended, { $id: "ExecutionEnd" });

export const ExecutionView = Type.Object(
  { ...ended, code: Type.String(), stdout: Type.String(), stderr: Type.String() },
  { $id: "Execution" },
);

/** The execution without code, stdout and stderr: the data of an `end` event. */
export function shapeEnd(execution: Execution) {
  return {
    id: execution.id,
    session_id: execution.session_id,
    status: execution.status,
    language: execution.language,
    timeout: execution.timeout,
    exit_code: execution.exit_code,
    reason: execution.reason,
    error_message: execution.error_message,
    execution_time: execution.execution_time,
    stdout_bytes: execution.stdout_bytes,
    stderr_bytes: execution.stderr_bytes,
    stdout_truncated: execution.stdout_truncated,
    stderr_truncated: execution.stderr_truncated,
    return_value: execution.return_value ?? null,
    artifacts: execution.artifacts,
    metrics: execution.metrics,
    env_vars: execution.env_vars,
    retry_count: execution.retry_count,
    created_at: execution.created_at,
    started_at: execution.started_at,
    completed_at: execution.completed_at,
  };
}

/** The execution as callers see it (contract, Executions). */
export function shapeExecution(execution: Execution) {
  return {
    ...shapeEnd(execution),
    code: execution.code,
    stdout: execution.stdout,
    stderr: execution.stderr,
  };
}
