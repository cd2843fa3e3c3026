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
