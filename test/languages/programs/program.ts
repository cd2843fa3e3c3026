import type { Language } from "../../../src/executor/protocol.ts";

/** A program and what must become of it. */
export type Program = {
  name: string;
  language: Language;
  code: string;
  event?: Record<string, unknown>;
  stdin?: string;
  env?: Record<string, string>;
  /** Seconds. */
  timeout?: number;
  expect: Expectation;
};

/** A string is the whole of the stream, a pattern is found in it. What is absent: completed, 0, null, anything. */
export type Expectation = {
  status?: "completed" | "failed" | "timeout";
  exitCode?: number;
  reason?: string;
  errorMessage?: RegExp;
  stdout?: string | RegExp;
  stderr?: string | RegExp;
  /** What must not be in either stream. */
  absent?: RegExp;
  returnValue?: unknown;
};

/** What became of it; fields as an Execution has them. */
export type Outcome = {
  status: string;
  exit_code: number | null;
  reason: string | null;
  error_message: string | null;
  stdout: string;
  stderr: string;
  return_value: unknown;
};

export type RunProgram = (program: Program) => Promise<Outcome>;

type Fields = Omit<Program, "name" | "language" | "code" | "expect">;

/** A short way to write one row of the table. */
export type Row = (name: string, code: string, expected: Expectation, fields?: Fields) => Program;

/** Rows of one language. The code may be indented as the table is: its first line's indentation is removed. */
export function rowsOf(language: Language): Row {
  return (name, code, expected, fields = {}) => ({ name, language, code: dedent(code), expect: expected, ...fields });
}

function dedent(code: string): string {
  const lines = code.replace(/^\n/, "").replace(/\n *$/, "\n").split("\n");
  const margin = /^ */.exec(lines[0] ?? "")?.[0].length ?? 0;
  return lines.map((line) => (line.slice(0, margin).trim() === "" ? line.slice(margin) : line)).join("\n");
}
