import { Type, type Static } from "@sinclair/typebox";
import type { Execution } from "../executions/execution.ts";
import { withMember, type RawJson } from "../json-text.ts";
import { LANGUAGES } from "../executor/protocol.ts";
import { exampleOf } from "./example.ts";
import { EnvVarsShown, ExecutionId, Instant, INSTANT, oneOf, orNull, SessionId } from "./schemas.ts";

const Artifact = Type.Object(
  {
    path: Type.String({ description: "Relative to the workspace.", examples: ["out.csv"] }),
    size: Type.Integer({ examples: [2048] }),
    mime_type: Type.String({ examples: ["text/csv"] }),
    type: oneOf(["created", "modified"]),
    sha256: Type.Optional(
      Type.String({ examples: ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"] }),
    ),
  },
  { $id: "Artifact" },
);

const Metrics = Type.Object(
  {
    duration_ms: Type.Number({ examples: [12.4] }),
    cpu_time_ms: Type.Number({ examples: [9.8] }),
    peak_memory_mb: Type.Number({ examples: [11.2] }),
    io_read_bytes: Type.Number({ examples: [0] }),
    io_write_bytes: Type.Number({ examples: [2048] }),
  },
  { $id: "Metrics" },
);

const METRICS = exampleOf(Metrics) as Static<typeof Metrics>;
const CODE = 'print("hello")\ndef handler(event):\n    return {"n": event["n"] + 1}';

const ended = {
  id: ExecutionId,
  session_id: SessionId,
  status: oneOf(["pending", "running", "completed", "failed", "timeout", "crashed", "cancelled"], "completed"),
  language: oneOf(LANGUAGES),
  timeout: Type.Integer({ description: "Seconds.", examples: [30] }),
  exit_code: orNull(Type.Integer(), 0),
  reason: orNull(
    Type.String({
      description:
        "Which limit or event ended it; null while it lives and when the program ended by itself with success.",
      examples: ["timeout", "memory_limit", "exception", "exit_code", "cancelled", "executor_lost"],
    }),
  ),
  error_message: orNull(Type.String()),
  execution_time: orNull(Type.Number({ description: "Seconds from start to end." }), 0.0124),
  stdout_bytes: Type.Integer({ description: "True count, also of what was cut.", examples: [6] }),
  stderr_bytes: Type.Integer({ description: "True count, also of what was cut.", examples: [0] }),
  stdout_truncated: Type.Boolean(),
  stderr_truncated: Type.Boolean(),
  return_value: Type.Unknown({ description: "What `handler` returned; null without a handler.", examples: [{ n: 2 }] }),
  artifacts: Type.Array(Artifact),
  metrics: orNull(Metrics, METRICS),
  env_vars: EnvVarsShown,
  retry_count: Type.Integer({ examples: [0] }),
  created_at: Instant,
  started_at: orNull(Instant, INSTANT),
  completed_at: orNull(Instant, INSTANT),
};

export const EndedView = Type.Object(ended, { $id: "ExecutionEnd" });

export const ExecutionView = Type.Object(
  {
    ...ended,
    code: Type.String({ examples: [CODE] }),
    stdout: Type.String({ examples: ["hello\n"] }),
    stderr: Type.String({ examples: [""] }),
  },
  { $id: "Execution" },
);

/** An execution that was just taken, for documents. */
export const PENDING_EXAMPLE = {
  ...(exampleOf(ExecutionView) as Static<typeof ExecutionView>),
  status: "pending",
  ...{ exit_code: null, execution_time: null, metrics: null, started_at: null, completed_at: null, return_value: null },
  ...{ stdout: "", stdout_bytes: 0, artifacts: [] },
};

/** The execution without code, stdout and stderr: the data of an `end` event, as JSON on one line. */
export function endText(execution: Execution): RawJson {
  return withMember(shapeEnd(execution), "return_value", execution.return_value);
}

/** The execution as callers see it (contract, Executions), as JSON. */
export function executionText(execution: Execution): RawJson {
  const { code, stdout, stderr } = execution;
  return withMember({ ...shapeEnd(execution), code, stdout, stderr }, "return_value", execution.return_value);
}

function shapeEnd(execution: Execution) {
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
    artifacts: execution.artifacts,
    metrics: execution.metrics,
    env_vars: execution.env_vars,
    retry_count: execution.retry_count,
    created_at: execution.created_at,
    started_at: execution.started_at,
    completed_at: execution.completed_at,
  };
}
