import type { Execution, ExecutionFields } from "../executions/execution.ts";
import type { JournalEntry } from "../executions/journal-entry.ts";
import { checkedJson, memberOf, parseWithin, type RawJson } from "../json-text.ts";
import { checkedInstant, checkedOutcome } from "./checked-outcome.ts";
import type { EndReason, ExecutionOutput, Outcome, OutputPayload, TerminalStatus } from "../executor/protocol.ts";

/** Output kept while following, in UTF-16 units a stream; past it the whole is fetched from the executor at the end. */
const KEPT_UNITS = 64 * 1024;

/** A value has up to 10 MiB. */
const MAX_RESULT_UNITS = 10 * 1024 ** 2 + 64;
/** An end names up to 1000 files. */
const MAX_END_OBJECTS = 1100;

/** Collects from journal entries what the record needs, in bounded memory. */
export class OutcomeCollector {
  #stdout = "";
  #stderr = "";
  #overflowed = false;
  #returnValue: RawJson | null = null;
  startedAt: string | null = null;
  outcome: Outcome | null = null;
  lastSeq = 0;

  add(entry: JournalEntry): void {
    this.lastSeq = entry.seq;
    switch (entry.type) {
      case "stdout":
      case "stderr":
        return this.#addOutput(entry.type, entry.json);
      case "status": {
        const { status, at } = parseWithin(entry.json, 1) as { status: unknown; at: unknown };
        if (status === "running") this.startedAt = checkedInstant(at);
        return;
      }
      case "result":
        // An executor in a Pod is no authority on what is JSON, nor on how much of it a record may have.
        if (entry.json.length > MAX_RESULT_UNITS) throw new TypeError("too large a result");
        checkedJson(entry.json);
        this.#returnValue = memberOf(entry.json, "return_value");
        return;
      case "end":
        this.outcome = checkedOutcome(parseWithin(entry.json, MAX_END_OBJECTS));
    }
  }

  #addOutput(stream: "stdout" | "stderr", json: string): void {
    if (this.#overflowed) return;
    const kept = this.#stdout.length + this.#stderr.length;
    if (kept + json.length > KEPT_UNITS) {
      this.#overflowed = true;
      return;
    }
    const { text } = JSON.parse(json) as Partial<OutputPayload>;
    if (typeof text !== "string") throw new TypeError("output without a text");
    if (stream === "stdout") this.#stdout += text;
    else this.#stderr += text;
  }

  /** True once there was more output than is kept here; `fields` then needs the executor's. */
  get overflowed(): boolean {
    return this.#overflowed;
  }

  /** What is known of the output of an execution whose executor is lost, with the journal: its beginning. */
  beginning(): ExecutionFields {
    return {
      stdout: this.#stdout,
      stderr: this.#stderr,
      stdout_bytes: Buffer.byteLength(this.#stdout),
      stderr_bytes: Buffer.byteLength(this.#stderr),
      stdout_truncated: this.#overflowed,
      stderr_truncated: this.#overflowed,
    };
  }

  /** The record's fields once `outcome` is there. */
  fields(fetched: ExecutionOutput | null): ExecutionFields {
    const outcome = this.outcome;
    if (outcome === null) return {};
    return {
      status: outcome.status,
      exit_code: outcome.exit_code,
      reason: outcome.reason,
      error_message: outcome.error_message,
      execution_time: outcome.started_at === null ? null : Math.round(outcome.metrics.duration_ms * 1000) / 1e6,
      stdout: fetched?.stdout ?? this.#stdout,
      stderr: fetched?.stderr ?? this.#stderr,
      stdout_bytes: outcome.stdout_bytes,
      stderr_bytes: outcome.stderr_bytes,
      stdout_truncated: outcome.stdout_truncated,
      stderr_truncated: outcome.stderr_truncated,
      return_value: this.#returnValue,
      artifacts: outcome.artifacts,
      metrics: outcome.metrics,
      started_at: outcome.started_at ?? this.startedAt,
      completed_at: outcome.completed_at,
      last_seq: this.lastSeq,
      journaled: true,
      timing: outcome.timing,
    };
  }
}

/**
 * The record's fields of an execution that no executor can tell about any more. No exit code is made up. `lastSeq`: the last
 * entry that was read of its journal; `pending`, unless more was.
 */
export function lostFields(
  execution: Execution,
  end: { status: TerminalStatus; reason: EndReason; error_message: string },
  now: Date,
  lastSeq = 1,
): ExecutionFields {
  return {
    ...end,
    exit_code: null,
    execution_time: execution.started_at === null ? null : (now.getTime() - Date.parse(execution.started_at)) / 1000,
    started_at: execution.started_at,
    completed_at: now.toISOString(),
    journaled: execution.journaled,
    last_seq: Math.max(lastSeq, 1) + 1,
  };
}
