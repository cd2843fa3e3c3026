import type { Artifact, EndReason, Metrics, Outcome, TerminalStatus } from "../executor/protocol.ts";

const STATUSES: ReadonlySet<unknown> = new Set<TerminalStatus>([
  "completed",
  "failed",
  "timeout",
  "crashed",
  "cancelled",
]);
const REASONS: ReadonlySet<unknown> = new Set<EndReason>([
  "exception",
  "exit_code",
  "signal",
  "invalid_result",
  "timeout",
  "memory_limit",
  "disk_limit",
  "process_limit",
  "cancelled",
  "session_ended",
  "executor_lost",
  "sandbox_lost",
  "start_failed",
]);
const METRICS = ["duration_ms", "cpu_time_ms", "peak_memory_mb", "io_read_bytes", "io_write_bytes"] as const;
const ARTIFACT_TYPES: ReadonlySet<unknown> = new Set<Artifact["type"]>(["created", "modified"]);
const MAX_ARTIFACTS = 1000;
const MAX_TIMINGS = 32;
const MAX_TEXT = 16 * 1024;

type Fields = Record<string, unknown>;

/**
 * The end of an execution as an executor told it, with what a record has of it and nothing else. In a Pod that may be anybody:
 * throws TypeError for what ours does not say.
 */
export function checkedOutcome(told: unknown): Outcome {
  const end = fields(told);
  const { status, reason, exit_code: exitCode } = end;
  if (!STATUSES.has(status) || !(reason === null || REASONS.has(reason))) throw new TypeError("no status or reason");
  if (exitCode !== null && !Number.isSafeInteger(exitCode)) throw new TypeError("no exit code");
  const metrics = fields(end["metrics"]);
  return {
    status: status as TerminalStatus,
    reason: reason as EndReason | null,
    exit_code: exitCode as number | null,
    error_message: end["error_message"] === null ? null : text(end["error_message"]),
    started_at: end["started_at"] === null ? null : checkedInstant(end["started_at"]),
    completed_at: checkedInstant(end["completed_at"]),
    metrics: Object.fromEntries(METRICS.map((name) => [name, amount(metrics[name])])) as Metrics,
    stdout_bytes: amount(end["stdout_bytes"]),
    stderr_bytes: amount(end["stderr_bytes"]),
    stdout_truncated: end["stdout_truncated"] === true,
    stderr_truncated: end["stderr_truncated"] === true,
    artifacts: list(end["artifacts"], MAX_ARTIFACTS).map(artifact),
    timing: Object.fromEntries(
      list<[string, unknown]>(Object.entries(fields(end["timing"])), MAX_TIMINGS).map(([name, ms]) => [
        text(name),
        amount(ms),
      ]),
    ),
  };
}

/** ISO 8601 in UTC, as records have it. Throws TypeError. */
export function checkedInstant(told: unknown): string {
  const ms = typeof told === "string" && told.length <= 32 ? Date.parse(told) : Number.NaN;
  if (Number.isNaN(ms)) throw new TypeError("no instant");
  return new Date(ms).toISOString();
}

function artifact(told: unknown): Artifact {
  const { path, size, mime_type: mimeType, type } = fields(told);
  if (!ARTIFACT_TYPES.has(type)) throw new TypeError("no artifact");
  return { path: text(path), size: amount(size), mime_type: text(mimeType), type: type as Artifact["type"] };
}

function fields(told: unknown): Fields {
  if (typeof told !== "object" || told === null) throw new TypeError("no object");
  return told as Fields;
}

function list<T = unknown>(told: unknown, most: number): T[] {
  if (!Array.isArray(told) || told.length > most) throw new TypeError("no list, or too long a one");
  return told as T[];
}

function text(told: unknown): string {
  if (typeof told !== "string" || told.length > MAX_TEXT) throw new TypeError("no text, or too long a one");
  return told;
}

/** A time between two clocks may come out below nothing. */
function amount(told: unknown): number {
  if (typeof told !== "number" || !Number.isFinite(told)) throw new TypeError("no amount");
  return Math.max(0, told);
}
