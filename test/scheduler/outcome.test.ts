import { expect, test } from "bun:test";
import type { JournalEntry } from "../../src/executions/journal-entry.ts";
import { OutcomeCollector } from "../../src/scheduler/outcome.ts";

function output(seq: number, type: "stdout" | "stderr", text: string): JournalEntry {
  return { seq, type, json: JSON.stringify({ text, offset: 0, at: "2026-01-01T00:00:00.000Z" }) };
}

test("what was read of a lost execution's output is kept from its beginning, in bounded memory", () => {
  const collector = new OutcomeCollector();
  collector.add(output(3, "stdout", "é\n"));
  collector.add(output(4, "stderr", "careful\n"));
  const whole = { stdout: "é\n", stderr: "careful\n", stdout_bytes: 3, stderr_bytes: 8, stdout_truncated: false };
  expect(collector.beginning()).toMatchObject(whole);
  collector.add(output(5, "stdout", "x".repeat(70_000)));
  collector.add(output(6, "stdout", "more"));
  expect(collector.beginning()).toMatchObject({ ...whole, stdout_truncated: true, stderr_truncated: true });
  expect(collector.overflowed).toBe(true);
});

test("the time of an execution is a decimal of microseconds, not what a division leaves", () => {
  const collector = new OutcomeCollector();
  const at = "2026-01-01T00:00:00.000Z";
  const metrics = { duration_ms: 9.118, cpu_time_ms: 1, peak_memory_mb: 8, io_read_bytes: 0, io_write_bytes: 0 };
  const outcome = {
    ...{ status: "completed", exit_code: 0, reason: null, error_message: null, artifacts: [], metrics },
    ...{ stdout_bytes: 0, stderr_bytes: 0, stdout_truncated: false, stderr_truncated: false },
    ...{ started_at: at, completed_at: at, timing: {} },
  };
  collector.add({ seq: 3, type: "end", json: JSON.stringify(outcome) });
  expect(collector.fields(null).execution_time).toBe(0.009118);
});
