import { fstatSync } from "node:fs";
import { requestIdInScope } from "../request-scope.ts";
import type { WorkspaceMark } from "./artifacts.ts";
import type { Journal } from "./journal.ts";
import {
  endedVerdict,
  refusedVerdict,
  stoppedVerdict,
  wasKilled,
  type StopCause,
  type Terms,
  type Verdict,
} from "./outcome.ts";
import type { Artifact, ExecutionRequest, Metrics, SandboxLimits } from "./protocol.ts";
import { ResultChannel } from "./result-channel.ts";

/** How a process ended, from wait4. */
export type ProcessExit = {
  waitStatus: number;
  userUs: number;
  systemUs: number;
  maxRssKb: number;
  /** Blocks of 512 bytes. */
  blocksRead: number;
  blocksWritten: number;
};

/** What an execution asks of its sandbox while it runs. */
export interface ExecutionHost {
  readonly limits: SandboxLimits;
  /** No other execution runs. */
  readonly isAlone: boolean;
  /** Ends every process of the execution; `killed` is called when none is left. */
  kill(execution: Execution): void;
  /** Ends the sandbox, because its init does not do what it must. */
  fail(why: string): void;
  memoryKills(): number;
  processRefusals(): number;
  mark(atMs: number): WorkspaceMark;
  changedSince(mark: WorkspaceMark): Artifact[] | Promise<Artifact[]>;
  /** Called once, when the execution has ended. `isJournaled` is false when the disk had no room for the journal's end. */
  ended(execution: Execution, verdict: Verdict, isJournaled: boolean): void;
}

/** How long init may take to end the processes of an execution. */
const KILL_GRACE_MS = 3000;
const NO_METRICS: Metrics = { duration_ms: 0, cpu_time_ms: 0, peak_memory_mb: 0, io_read_bytes: 0, io_write_bytes: 0 };
const FORK_REFUSED = /resource temporarily unavailable|can't start new thread|EAGAIN|cannot fork|fork: retry/i;

type Run = {
  startedAt: string;
  mark: WorkspaceMark;
  memoryKills: number;
  processRefusals: number;
  /** `performance.now()` of the phases; null until they are reached. */
  startedMs: number;
  spawnedMs: number | null;
  exitedMs: number | null;
  deadline: NodeJS.Timeout;
  result: ResultChannel;
  exit: ProcessExit | null;
  killedAll: boolean;
};

/** One run of code, from the moment it was accepted to the end of its journal. */
export class Execution {
  readonly id: string;
  readonly request: ExecutionRequest;
  readonly journal: Journal;
  /** Of the request that it was submitted by. */
  readonly requestId = requestIdInScope();
  readonly #host: ExecutionHost;
  readonly #terms: Terms;
  readonly #acceptedMs = performance.now();
  readonly #done = Promise.withResolvers<void>();
  #run: Run | null = null;
  #cause: StopCause | null = null;
  #killGuard: NodeJS.Timeout | null = null;
  #ending = false;

  constructor(id: string, request: ExecutionRequest, journal: Journal, host: ExecutionHost) {
    this.id = id;
    this.request = request;
    this.journal = journal;
    this.#host = host;
    this.#terms = { timeoutMs: request.timeoutMs, limits: host.limits };
  }

  /** Milliseconds since it was accepted. */
  get ageMs(): number {
    return rounded(performance.now() - this.#acceptedMs);
  }

  /** Resolves when the journal has its end. */
  get done(): Promise<void> {
    return this.#done.promise;
  }

  get isRunning(): boolean {
    return this.#run !== null && !this.#ending;
  }

  /** Journals that it waits for its turn. */
  wait(): void {
    this.journal.status({ status: "pending", at: this.request.createdAt });
  }

  /** Its process has been asked for: the time limit counts from now. `waited`: the journal says `pending` already. */
  start(waited: boolean): void {
    const startedAt = new Date().toISOString();
    const running = { status: "running" as const, at: startedAt };
    if (waited) this.journal.status(running);
    else this.journal.status({ status: "pending", at: this.request.createdAt }, running);
    this.#run = {
      startedAt,
      mark: this.#host.mark(fstatSync(this.journal.fd).mtimeMs),
      memoryKills: this.#host.memoryKills(),
      processRefusals: this.#host.processRefusals(),
      startedMs: performance.now(),
      spawnedMs: null,
      exitedMs: null,
      deadline: setTimeout(() => this.stop("timeout"), this.request.timeoutMs),
      result: new ResultChannel(),
      exit: null,
      killedAll: false,
    };
  }

  /** The process is there. */
  spawned(): void {
    if (this.#run !== null) this.#run.spawnedMs ??= performance.now();
  }

  output(type: "stdout" | "stderr", chunk: Uint8Array): void {
    if (!this.#ending) this.journal.output(type, chunk);
  }

  result(chunk: Uint8Array): void {
    this.#run?.result.add(chunk);
  }

  /** Its leader has ended, and all of its output was given. */
  exited(exit: ProcessExit): void {
    const run = this.#run;
    if (run === null || run.exit !== null) return;
    run.exit = exit;
    run.exitedMs = performance.now();
    if (this.#cause === null) this.#end(endedVerdict(this.#endingOf(run, exit), this.#terms));
    else if (run.killedAll) this.#endStopped();
  }

  /** No process could be started; `isRefused`: since there are too many. */
  startFailed(message: string, isRefused = false): void {
    if (this.#cause !== null) return this.#endStopped();
    if (isRefused) return this.#end(refusedVerdict(message, this.#terms));
    this.#end({ status: "failed", exit_code: null, reason: "start_failed", error_message: message });
  }

  /** Every process of it is dead. */
  killed(): void {
    const run = this.#run;
    if (run === null) return;
    run.killedAll = true;
    if (run.exit !== null && this.#cause !== null) this.#endStopped();
  }

  /** Ends it for a cause; the first one counts. Resolves when no process of it is left and the journal has its end. */
  stop(cause: StopCause): Promise<void> {
    if (this.#cause !== null || this.#ending) return this.done;
    this.#cause = cause;
    if (this.#run === null) {
      this.#endStopped();
      return this.done;
    }
    this.#host.kill(this);
    this.#killGuard = setTimeout(() => this.#host.fail("init did not end an execution in time"), KILL_GRACE_MS);
    return this.done;
  }

  /** Marks why its sandbox is about to be ended, without ending anything itself. */
  willStop(cause: StopCause): void {
    this.#cause ??= cause;
  }

  /** Its sandbox is gone, and every process with it. */
  lost(): void {
    this.#cause ??= "sandbox_lost";
    this.#endStopped();
  }

  #endStopped(): void {
    const run = this.#run;
    const cause = this.#cause ?? "sandbox_lost";
    this.#end(stoppedVerdict(cause, run !== null, run?.exit?.waitStatus ?? null, this.#terms));
  }

  #endingOf(run: Run, exit: ProcessExit): Parameters<typeof endedVerdict>[0] {
    const { waitStatus } = exit;
    const result = run.result.read();
    const suspect = waitStatus !== 0 || result.kind === "exception";
    const alone = this.#host.isAlone;
    const message = result.kind === "exception" ? result.message : "";
    return {
      waitStatus,
      result,
      memoryKilled: suspect && (alone || wasKilled(waitStatus)) && this.#host.memoryKills() > run.memoryKills,
      processRefused:
        suspect && (alone || FORK_REFUSED.test(message)) && this.#host.processRefusals() > run.processRefusals,
    };
  }

  #end(verdict: Verdict): void {
    if (this.#ending) return;
    this.#ending = true;
    clearTimeout(this.#run?.deadline);
    if (this.#killGuard !== null) clearTimeout(this.#killGuard);
    const changed = this.#run === null ? [] : this.#host.changedSince(this.#run.mark);
    if (changed instanceof Promise) void changed.then((artifacts) => this.#close(verdict, artifacts));
    else this.#close(verdict, changed);
  }

  #close(verdict: Verdict, artifacts: Artifact[]): void {
    const run = this.#run;
    const now = performance.now();
    const exitedMs = run?.exitedMs ?? now;
    const result = verdict.status === "completed" ? (run?.result.read() ?? null) : null;
    const isJournaled = this.journal.end(result?.kind === "value" ? result.json : null, {
      ...verdict,
      started_at: run?.startedAt ?? null,
      completed_at: new Date().toISOString(),
      metrics: run === null ? NO_METRICS : metricsOf(exitedMs - run.startedMs, run.exit),
      artifacts,
      timing: run === null ? { queue: rounded(now - this.#acceptedMs) } : this.#timing(run, exitedMs, now),
    });
    this.#host.ended(this, verdict, isJournaled);
    this.#done.resolve();
  }

  #timing(run: Run, exitedMs: number, now: number): Record<string, number> {
    const spawnedMs = Math.max(run.spawnedMs ?? exitedMs, run.startedMs);
    return {
      queue: rounded(run.startedMs - this.#acceptedMs),
      spawn: rounded(spawnedMs - run.startedMs),
      run: rounded(exitedMs - spawnedMs),
      flush: rounded(now - exitedMs),
    };
  }
}

function metricsOf(durationMs: number, exit: ProcessExit | null): Metrics {
  if (exit === null) return { ...NO_METRICS, duration_ms: rounded(durationMs) };
  return {
    duration_ms: rounded(durationMs),
    cpu_time_ms: rounded((exit.userUs + exit.systemUs) / 1000),
    peak_memory_mb: rounded(exit.maxRssKb / 1024),
    io_read_bytes: exit.blocksRead * 512,
    io_write_bytes: exit.blocksWritten * 512,
  };
}

/** Three decimals: microseconds of a millisecond figure. */
function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
