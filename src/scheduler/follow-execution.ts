import { setTimeout as delay } from "node:timers/promises";
import type { Changes } from "../changes.ts";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import {
  isLive,
  LIVE_STATUSES,
  type Execution,
  type ExecutionFields,
  type ExecutionStore,
} from "../executions/execution.ts";
import { JournalFault, readJournal, type JournalEntry } from "../executions/journal-entry.ts";
import type { ExecutionOutput, ExecutionRequest, Executor } from "../executor/protocol.ts";
import type { Log } from "../log.ts";
import type { Provisioner } from "../provisioners/provisioner.ts";
import type { Session, SessionStore } from "../sessions/session.ts";
import { lostFields, OutcomeCollector } from "./outcome.ts";

export type FollowerDeps = {
  executions: ExecutionStore;
  sessions: SessionStore;
  provisioner: Provisioner;
  executionChanges: Changes<Execution>;
  sessionChanges: Changes<Session>;
  clock: Clock;
  log: Log;
  /** Makes the session's sandbox again when it is gone. */
  reconcile(sessionId: string): Promise<void>;
  /** Called once for each execution that this process saw end. */
  ended(execution: Execution): void;
  /** How long after its limit a program that runs may stay without an end: its executor ends it within a second. */
  overdueMs?: number | undefined;
};

/** An executor that can't be reached for this long is lost, and its executions with it (contract: within 20 s). */
const LOST_AFTER_MS = 12_000;
const OVERDUE_MS = 30_000;
const RETRY_MS = 100;
const STORE_RETRY_MS = 500;
const SESSION_RECHECK_MS = 500;
/** Most executions end within this, and then their row is written once. */
const STORE_START_AFTER_MS = 20;

/** Takes one execution from its row to its end: hands it to the executor, follows the journal, stores what it says. */
export class ExecutionFollower {
  readonly #d: FollowerDeps;
  readonly #signal: AbortSignal;
  #execution: Execution;
  #collector = new OutcomeCollector();
  #accepted: boolean;
  #lostSince: number | null = null;
  /** The last pass ended because nothing could be stored. */
  #isUnstored = false;
  /** Of all passes the one that read the furthest. */
  #furthest = this.#collector;
  /** Aborts when the program should have been ended long ago. */
  readonly #overdue = new AbortController();
  readonly #reading: AbortSignal;
  #mustEndTimer: ReturnType<typeof setTimeout> | undefined;
  #storing: ReturnType<typeof setTimeout> | undefined;

  constructor(deps: FollowerDeps, execution: Execution, signal: AbortSignal) {
    this.#d = deps;
    this.#execution = execution;
    this.#signal = signal;
    this.#reading = AbortSignal.any([signal, this.#overdue.signal]);
    this.#accepted = execution.status === "running";
  }

  /** As this process knows it. */
  get execution(): Execution {
    return this.#execution;
  }

  /** Resolves when the row says how the execution ended, or when the signal aborts (the row then stays as it is). */
  async run(): Promise<void> {
    while (!this.#signal.aborted) {
      let pauseMs = RETRY_MS;
      try {
        if (await this.#pass()) return;
      } catch (error) {
        // What runs goes on meanwhile, and is read from the journal once it can be stored.
        if (!(error instanceof AppError && error.code === "store_unavailable")) throw error;
        pauseMs = STORE_RETRY_MS;
      }
      await delay(pauseMs, undefined, { signal: this.#signal }).catch(() => {});
    }
    clearTimeout(this.#storing);
    clearTimeout(this.#mustEndTimer);
  }

  /** True when the row says how the execution ended. */
  async #pass(): Promise<boolean> {
    const session = await this.#settledSession();
    if (session === null || this.#signal.aborted) return true;
    if (!this.#accepted && session.status !== "running") {
      await this.#endWithSession(session);
      return true;
    }
    try {
      return await this.#attempt(session);
    } catch (error) {
      return this.#signal.aborted || (await this.#endAfter(error, session));
    }
  }

  /** Null when there is nothing to be run any more. */
  async #settledSession(): Promise<Session | null> {
    for (let hasWaited = false; ; hasWaited = true) {
      const news = this.#d.sessionChanges.wait(this.#execution.session_id, SESSION_RECHECK_MS, this.#signal);
      const session = await this.#d.sessions.get(this.#execution.session_id);
      if (hasWaited && !(await this.#isLiveRow())) return null;
      if (session?.status !== "creating" || this.#signal.aborted) return session;
      await news;
    }
  }

  async #isLiveRow(): Promise<boolean> {
    const row = await this.#d.executions.get(this.#execution.id);
    return row !== null && isLive(row);
  }

  /** One pass over the journal; true when it reached the end. */
  async #attempt(session: Session): Promise<boolean> {
    const executor = await this.#d.provisioner.executorOf(session.id);
    const { id } = this.#execution;
    if (this.#execution.status === "running") this.#mustEnd();
    const stream = this.#accepted
      ? await executor.journal(id, 0, this.#reading)
      : await executor.execute(id, requestOf(this.#execution, session), this.#reading);
    this.#accepted = true;
    // Not before there is a journal: what was read of one that is lost is all that remains of it.
    this.#collector = new OutcomeCollector();
    for await (const batch of readJournal(stream)) {
      this.#take(batch, executor);
      if (this.#collector.outcome !== null) {
        await this.#finish(executor);
        return true;
      }
    }
    throw new AppError("executor_unavailable", "the journal has no end");
  }

  /** Counted from when this process first sees it run: an executor's own clock is no evidence. */
  #mustEnd(): void {
    const ms = this.#execution.timeout * 1000 + (this.#d.overdueMs ?? OVERDUE_MS);
    this.#mustEndTimer ??= setTimeout(() => this.#overdue.abort(), ms);
  }

  #take(batch: JournalEntry[], executor: Executor): void {
    try {
      for (const entry of batch) this.#collector.add(entry);
    } catch (error) {
      throw error instanceof JournalFault ? error : new JournalFault("an entry is not what it says", error);
    }
    // What comes again is no sign of life.
    if (this.#collector.lastSeq > this.#furthest.lastSeq) {
      this.#lostSince = null;
      this.#furthest = this.#collector;
    }
    const startedAt = this.#collector.startedAt;
    if (this.#collector.outcome !== null || startedAt === null || this.#execution.status === "running") return;
    this.#started(startedAt, executor);
  }

  /** Tells readers in this process at once; the row says so a little later, unless it says by then how the execution ended. */
  #started(at: string, executor: Executor): void {
    this.#mustEnd();
    const fields = { status: "running", started_at: at, journaled: true } as const;
    Object.assign(this.#execution, fields);
    this.#d.executionChanges.notify(this.#execution.id, this.#execution);
    this.#storing = setTimeout(() => {
      this.#storeStart(fields, executor).catch((error: unknown) =>
        this.#d.log.warn("execution.start_not_stored", { execution_id: this.#execution.id, error }),
      );
    }, STORE_START_AFTER_MS);
  }

  /** What was cancelled as not started, just when it was given to its executor, is ended there. */
  async #storeStart(fields: ExecutionFields, executor: Executor): Promise<void> {
    const { id } = this.#execution;
    if (await this.#d.executions.update(id, fields, ["pending"])) return;
    if (!(await this.#isLiveRow())) await executor.cancel(id);
  }

  async #finish(executor: Executor): Promise<void> {
    let fetched: ExecutionOutput | null = null;
    if (this.#collector.overflowed) fetched = await executor.output(this.#execution.id);
    await this.#store(this.#collector.fields(fetched));
  }

  async #store(fields: ExecutionFields): Promise<void> {
    clearTimeout(this.#storing);
    const changed = await this.#d.executions.update(this.#execution.id, fields, LIVE_STATUSES);
    if (!changed) return;
    Object.assign(this.#execution, fields);
    this.#d.executionChanges.notify(this.#execution.id, this.#execution);
    if (!isLive(this.#execution)) this.#d.ended(this.#execution);
  }

  #endWithSession(session: Session): Promise<void> {
    const failed = session.status === "failed";
    const message = failed ? `the session failed: ${session.error_message ?? "unknown cause"}` : "the session ended";
    const status = failed ? "failed" : "cancelled";
    const end = { status, reason: "session_ended", error_message: message } as const;
    return this.#store(lostFields(this.#execution, end, this.#d.clock.now()));
  }

  /** Decides after a failed pass: true when the execution has been ended, false to try again. */
  async #endAfter(error: unknown, session: Session): Promise<boolean> {
    const code = error instanceof AppError ? error.code : "internal";
    const message = error instanceof Error ? error.message : String(error);
    const { id } = this.#execution;
    // Once for each loss: it is tried again ten times a second.
    const level = this.#lostSince === null && !this.#isUnstored ? "warn" : "debug";
    this.#d.log[level]("execution.follow_failed", { execution_id: id, code, error });
    this.#isUnstored = code === "store_unavailable";
    if (this.#isUnstored) throw error;
    if (code === "queue_full") return false;
    if (code === "session_not_found" && !this.#accepted && this.#withinGrace()) {
      await this.#d.reconcile(session.id);
      return false;
    }
    const isBroken = error instanceof JournalFault || this.#overdue.signal.aborted;
    if (!isBroken && (code === "executor_unavailable" || code === "internal") && this.#withinGrace()) return false;
    const isRefusal = error instanceof AppError && (error.status < 500 || code === "disk_full");
    const end =
      !this.#accepted && isRefusal && code !== "session_not_found"
        ? ({ status: "failed", reason: "start_failed", error_message: message } as const)
        : ({ status: "crashed", reason: "executor_lost", error_message: await this.#whyLost(error) } as const);
    const fields = lostFields(this.#execution, end, this.#d.clock.now(), this.#furthest.lastSeq);
    await this.#store({ ...fields, ...this.#furthest.beginning() });
    return true;
  }

  async #whyLost(error: unknown): Promise<string> {
    if (error instanceof JournalFault) return `the executor can't be trusted: ${error.message}`;
    if (this.#overdue.signal.aborted) return "the executor did not end it at its limit";
    const since = new Date(this.#execution.created_at);
    const loss = (await this.#d.provisioner.lossOf?.(this.#execution.session_id, since)) ?? null;
    return loss === null ? "the executor was lost" : `the executor was lost: ${loss}`;
  }

  #withinGrace(): boolean {
    this.#lostSince ??= performance.now();
    return performance.now() - this.#lostSince < LOST_AFTER_MS;
  }
}

function requestOf(execution: Execution, session: Session): ExecutionRequest {
  return {
    sandboxId: session.id,
    language: execution.language,
    code: execution.code,
    event: execution.event,
    env: { ...session.env_vars, ...execution.env_vars },
    stdin: execution.stdin,
    timeoutMs: execution.timeout * 1000,
    createdAt: execution.created_at,
  };
}
