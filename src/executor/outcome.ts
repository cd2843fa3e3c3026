import type { EndReason, SandboxLimits, TerminalStatus } from "./protocol.ts";
import type { ExecutionResult } from "./result-channel.ts";

/** Why an execution was ended from here; the first cause counts. */
export type StopCause =
  | "timeout"
  | "cancelled"
  | "session_ended"
  | "memory_limit"
  | "disk_limit"
  | "process_limit"
  | "sandbox_lost";

export type Verdict = {
  status: TerminalStatus;
  exit_code: number | null;
  reason: EndReason | null;
  error_message: string | null;
};

/** What is known of a program that ended by itself. */
export type Ending = {
  /** As wait4 gives it. */
  waitStatus: number;
  result: ExecutionResult;
  /** While it ran, the kernel killed a process of the sandbox for memory. */
  memoryKilled: boolean;
  /** While it ran, a fork in the sandbox was refused. */
  processRefused: boolean;
};

export type Terms = { timeoutMs: number; limits: SandboxLimits };

const SIGKILL = 9;
const SIGXFSZ = 25;
const SIGNALS: Record<number, string> = {
  1: "SIGHUP",
  2: "SIGINT",
  3: "SIGQUIT",
  4: "SIGILL",
  5: "SIGTRAP",
  6: "SIGABRT",
  7: "SIGBUS",
  8: "SIGFPE",
  9: "SIGKILL",
  10: "SIGUSR1",
  11: "SIGSEGV",
  12: "SIGUSR2",
  13: "SIGPIPE",
  14: "SIGALRM",
  15: "SIGTERM",
  24: "SIGXCPU",
  25: "SIGXFSZ",
  31: "SIGSYS",
};
const NO_SPACE = /no space left on device|disk quota exceeded|ENOSPC|EDQUOT|file too large/i;

/** How an execution that was ended from here is told; `waitStatus` null: nothing is known of its leader's end. */
export function stoppedVerdict(cause: StopCause, started: boolean, waitStatus: number | null, terms: Terms): Verdict {
  const exitCode = waitStatus === null ? null : exitCodeOf(waitStatus);
  const failed = { status: "failed" as const, exit_code: exitCode, reason: cause };
  switch (cause) {
    case "timeout":
      return {
        status: "timeout",
        exit_code: 124,
        reason: cause,
        error_message: `the time limit of ${terms.timeoutMs / 1000} s was reached`,
      };
    case "cancelled": {
      const when = started ? "the execution was cancelled" : "the execution was cancelled before it started";
      return { status: "cancelled", exit_code: exitCode, reason: cause, error_message: when };
    }
    case "session_ended":
      return { status: "cancelled", exit_code: exitCode, reason: cause, error_message: "the session ended" };
    case "sandbox_lost":
      return { status: "crashed", exit_code: null, reason: cause, error_message: "the sandbox was lost" };
    case "memory_limit":
      return { ...failed, error_message: memoryMessage(terms) };
    case "disk_limit":
      return { ...failed, error_message: diskMessage(terms) };
    case "process_limit":
      return { ...failed, error_message: processMessage(terms) };
  }
}

/** How an execution is told for which there was no process left. */
export function refusedVerdict(message: string, terms: Terms): Verdict {
  const error_message = `${processMessage(terms)}: ${message}`;
  return { status: "failed", exit_code: null, reason: "process_limit", error_message };
}

/** How an execution that ended by itself is told. */
export function endedVerdict(ending: Ending, terms: Terms): Verdict {
  const { result, waitStatus } = ending;
  const exitCode = exitCodeOf(waitStatus);
  const failed = (reason: EndReason, message: string): Verdict => ({
    status: "failed",
    exit_code: exitCode === 0 ? 1 : exitCode,
    reason,
    error_message: message,
  });
  if (result.kind === "invalid_result" && exitCode === 0) return failed("invalid_result", result.message);
  if (exitCode === 0 && result.kind !== "exception")
    return { status: "completed", exit_code: 0, reason: null, error_message: null };
  const message = result.kind === "exception" || result.kind === "invalid_result" ? result.message : "";
  if (ending.memoryKilled || /^MemoryError\b/.test(message)) return failed("memory_limit", memoryMessage(terms));
  if (signalOf(waitStatus) === SIGXFSZ || NO_SPACE.test(message))
    return failed("disk_limit", message === "" ? diskMessage(terms) : `${diskMessage(terms)}: ${message}`);
  if (ending.processRefused) return failed("process_limit", processMessage(terms));
  if (result.kind === "exception" || result.kind === "invalid_result") return failed(result.kind, message);
  const signal = signalOf(waitStatus);
  if (signal !== 0) return failed("signal", `the program was ended by ${SIGNALS[signal] ?? `signal ${signal}`}`);
  return failed("exit_code", `the program ended with exit code ${exitCode}`);
}

/** Whether the end looks like that of a process, or of a child it waited for, that the kernel killed. */
export function wasKilled(waitStatus: number): boolean {
  return exitCodeOf(waitStatus) === 128 + SIGKILL;
}

function signalOf(waitStatus: number): number {
  return waitStatus & 0x7f;
}

function exitCodeOf(waitStatus: number): number {
  const signal = signalOf(waitStatus);
  return signal === 0 ? (waitStatus >> 8) & 0xff : 128 + signal;
}

function memoryMessage({ limits }: Terms): string {
  return `the memory limit of ${mebibytes(limits.memoryBytes)} was reached`;
}

/** What is said of a workspace, or of what else counts as one, that has more bytes. */
export function diskMessage({ limits }: { limits: Pick<SandboxLimits, "diskBytes"> }): string {
  return `the disk limit of ${mebibytes(limits.diskBytes)} was reached`;
}

function processMessage({ limits }: Terms): string {
  return `the limit of ${limits.maxProcesses} processes was reached`;
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MiB`;
}
