import { expect } from "bun:test";
import type { Outcome, Program } from "./programs/program.ts";

/** Fails the test unless the outcome is what the program's row says. */
export function expectOutcome(program: Program, outcome: Outcome): void {
  const { expect: wanted } = program;
  const status = wanted.status ?? "completed";
  const shown = { status: outcome.status, exit_code: outcome.exit_code };
  const context = `${outcome.error_message ?? ""}\n${outcome.stderr.slice(0, 2000)}`;
  expect({ ...shown, context }).toEqual({ status, exit_code: wanted.exitCode ?? 0, context });
  if (wanted.reason !== undefined) expect(outcome.reason).toBe(wanted.reason);
  if (wanted.errorMessage !== undefined) expect(outcome.error_message).toMatch(wanted.errorMessage);
  if (wanted.stdout !== undefined) expectText(outcome.stdout, wanted.stdout);
  if (wanted.stderr !== undefined) expectText(outcome.stderr, wanted.stderr);
  if (wanted.absent !== undefined) expect(outcome.stdout + outcome.stderr).not.toMatch(wanted.absent);
  if (wanted.returnValue instanceof RegExp) expect(String(outcome.return_value)).toMatch(wanted.returnValue);
  else expect(outcome.return_value).toEqual(wanted.returnValue ?? null);
}

/** Long texts are compared by length first, so that a failure does not print megabytes. */
function expectText(text: string, wanted: string | RegExp): void {
  if (wanted instanceof RegExp) return expect(text).toMatch(wanted);
  if (wanted.length > 10_000) {
    expect(text.length).toBe(wanted.length);
    return expect(text === wanted).toBeTrue();
  }
  return expect(text).toBe(wanted);
}
