import { setTimeout as delay } from "node:timers/promises";
import type { Changes, Wakeups } from "../changes.ts";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { Language } from "../executor/protocol.ts";
import { newExecutionId } from "../id.ts";
import type { RawJson } from "../json-text.ts";
import type { Provisioner } from "../provisioners/provisioner.ts";
import { checkEnvironment } from "../sessions/limits.ts";
import { isLive as isLiveSession, leaseFrom, type Page, type Session } from "../sessions/session.ts";
import type { Sessions } from "../sessions/sessions.ts";
import { isLive, type Execution, type ExecutionStore } from "./execution.ts";
import { followExecution } from "./follow.ts";
import type { JournalEntry } from "./journal-entry.ts";

/** What a caller submits (contract, Executions); `timeout` in seconds. */
export type ExecutionInput = {
  code: string;
  language: Language;
  timeout: number;
  event: RawJson | null;
  env_vars: Record<string, string>;
  stdin: string;
};

/** How long to wait for an end, in milliseconds, at most until `signal` aborts. */
export type Wait = { waitMs: number; signal?: AbortSignal | undefined };

export type ExecutionRules = {
  /** Live executions of one session: those that run at once and those that may wait. */
  maxLivePerSession: number;
  /** Live executions of one tenant; null is no limit. */
  maxLivePerTenant: number | null;
  leaseMs: number;
};

export type ExecutionsDeps = {
  store: ExecutionStore;
  sessions: Sessions;
  provisioner: Provisioner;
  wakeups: Wakeups;
  changes: Changes<Execution>;
  clock: Clock;
  rules: ExecutionRules;
  /** Name of this process in leases. */
  owner: string;
};

/** How often a waiter looks at the row itself, for changes that another replica made. */
const RECHECK_MS = 500;
/** How long a cancellation tries to reach the executor. */
const REACH_MS = 5000;
const REACH_RETRY_MS = 100;
/** How long a cancelled execution may take to be stored as ended before the caller is answered all the same. */
const CANCEL_WAIT_MS = 10_000;

/** The operations on executions. Every method throws AppError; one of another tenant is `execution_not_found`. */
export class Executions {
  readonly #d: ExecutionsDeps;

  constructor(deps: ExecutionsDeps) {
    this.#d = deps;
  }

  /**
   * Records the execution and starts it. The same `idempotencyKey` in a session gives the execution of the first call. With
   * `wait` it answers as `ended` does.
   */
  async submit(
    tenant: string,
    sessionId: string,
    input: ExecutionInput,
    idempotencyKey: string | null = null,
    wait?: Wait,
  ): Promise<Execution> {
    const { store, rules } = this.#d;
    const session = await this.#d.sessions.get(tenant, sessionId);
    checkEnvironment(input.env_vars);
    const known = await this.#known(sessionId, idempotencyKey);
    if (known !== null) return this.#answer(known, wait);
    if (!isLiveSession(session)) throw new AppError("session_ended", `session ${sessionId} is ${session.status}`);
    if ((await store.countLive({ sessionId })) >= rules.maxLivePerSession)
      throw new AppError("queue_full", `session ${sessionId} has ${rules.maxLivePerSession} executions already`, {
        retryAfterS: 1,
      });
    if (rules.maxLivePerTenant !== null && (await store.countLive({ tenant })) >= rules.maxLivePerTenant)
      throw new AppError("execution_limit", `at most ${rules.maxLivePerTenant} executions at once`, { retryAfterS: 1 });
    const now = this.#d.clock.now();
    const execution = newExecution(tenant, session, input, idempotencyKey, now);
    const lease = leaseFrom(now, this.#d.owner, rules.leaseMs);
    try {
      await store.insert(execution, lease);
    } catch (error) {
      const first = await this.#known(sessionId, idempotencyKey);
      if (first === null) throw error;
      return this.#answer(first, wait);
    }
    // Asked for before the execution can begin, so that no news of it is missed.
    const answered = this.#answer(execution, wait);
    this.#d.wakeups.execution(execution);
    const [answer] = await Promise.all([answered, this.#d.sessions.touch(session)]);
    return answer;
  }

  /** The execution that the key was first sent with; null when there is no key, or none was. */
  async #known(sessionId: string, idempotencyKey: string | null): Promise<Execution | null> {
    return idempotencyKey === null ? null : this.#d.store.findByIdempotencyKey(sessionId, idempotencyKey);
  }

  /** The execution at once, or with `wait` as `ended` gives it. */
  #answer(execution: Execution, wait: Wait | undefined): Promise<Execution> {
    return wait === undefined ? Promise.resolve(execution) : this.#ended(execution, wait);
  }

  async get(tenant: string, id: string): Promise<Execution> {
    const execution = await this.#d.store.get(id);
    if (execution === null || execution.tenant !== tenant)
      throw new AppError("execution_not_found", `there is no execution ${id}`);
    return execution.status === "pending" ? (this.#d.wakeups.followed(id) ?? execution) : execution;
  }

  /** A page of a session's executions, newest first. They are read one at a time: each may hold megabytes of output. */
  async list(
    tenant: string,
    sessionId: string,
    page: Page,
  ): Promise<{ items: AsyncGenerator<Execution>; count: number; total: number }> {
    await this.#d.sessions.get(tenant, sessionId);
    const { items: ids, total } = await this.#d.store.ids(sessionId, page);
    return { items: this.#each(ids), count: ids.length, total };
  }

  /** Those of the executions that are still there. */
  async *#each(ids: readonly string[]): AsyncGenerator<Execution> {
    for (const id of ids) {
      const execution = await this.#d.store.get(id);
      if (execution !== null) yield execution;
    }
  }

  /** Ends a live execution; answers when no process of it is left. One that has ended is answered unchanged. */
  async cancel(tenant: string, id: string): Promise<Execution> {
    for (const end = performance.now() + REACH_MS; ; await delay(REACH_RETRY_MS)) {
      const execution = await this.get(tenant, id);
      if (!isLive(execution)) return execution;
      try {
        await this.#stop(execution);
        return await this.ended(tenant, id, CANCEL_WAIT_MS);
      } catch (error) {
        // What another replica has just begun is here in a moment.
        const isLate = performance.now() > end;
        if (isLate || !(error instanceof AppError && error.code === "executor_unavailable")) throw error;
      }
    }
  }

  async #stop(execution: Execution): Promise<void> {
    try {
      const executor = await this.#d.provisioner.executorOf(execution.session_id);
      await executor.cancel(execution.id);
      // Its journal has its end now, but whoever is to store that may have died.
      this.#d.wakeups.execution(execution);
    } catch (error) {
      if (!(await this.#isUnstarted(execution, error))) throw error;
      const isTold = error instanceof AppError && error.code === "execution_not_found";
      if ((await this.#cancelUnstarted(execution.id)) && !isTold) await this.#stopOvertaken(execution);
    }
  }

  /**
   * Its sandbox was made meanwhile, and it may be on its way there: the executor remembers. Where that can't be reached from
   * here, the follower sees what has become of the row.
   */
  async #stopOvertaken({ id, tenant, session_id: sessionId }: Execution): Promise<void> {
    try {
      if ((await this.#d.sessions.get(tenant, sessionId)).status !== "running") return;
      await (await this.#d.provisioner.executorOf(sessionId)).cancel(id);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
    }
  }

  /** No executor has it yet, by what asking for it failed with. */
  async #isUnstarted({ tenant, session_id: sessionId }: Execution, error: unknown): Promise<boolean> {
    if (!(error instanceof AppError)) return false;
    if (error.code === "execution_not_found" || error.code === "session_not_found") return true;
    if (error.code !== "executor_unavailable") return false;
    return (await this.#d.sessions.get(tenant, sessionId)).status === "creating";
  }

  async #cancelUnstarted(id: string): Promise<boolean> {
    const fields = {
      status: "cancelled" as const,
      reason: "cancelled" as const,
      error_message: "cancelled before it started",
      completed_at: this.#d.clock.now().toISOString(),
      last_seq: 2,
    };
    if (!(await this.#d.store.update(id, fields, ["pending"]))) return false;
    const ended = await this.#d.store.get(id);
    if (ended !== null) this.#d.changes.notify(id, ended);
    return true;
  }

  /** The execution once it has ended, or as it is after `waitMs` or when `signal` aborts. */
  async ended(tenant: string, id: string, waitMs: number, signal?: AbortSignal): Promise<Execution> {
    return this.#ended(await this.get(tenant, id), { waitMs, signal });
  }

  #ended(known: Execution, { waitMs, signal }: Wait): Promise<Execution> {
    const read = (): Promise<Execution> => this.get(known.tenant, known.id);
    const hasEnded = (execution: Execution): boolean => !isLive(execution);
    return this.#d.changes.until(known.id, read, hasEnded, { waitMs, recheckMs: RECHECK_MS, signal, known });
  }

  /**
   * The execution's journal from entry `after + 1`, live, in batches; returns after the `end` entry. Live, late and
   * reconnecting readers take this one path. Aborting `signal` frees the reader at once and leaves the execution alone.
   */
  async *follow(tenant: string, id: string, after: number, signal: AbortSignal): AsyncGenerator<JournalEntry[]> {
    const execution = await this.get(tenant, id);
    yield* followExecution(this.#d, execution, after, signal);
  }
}

function newExecution(
  tenant: string,
  session: Session,
  input: ExecutionInput,
  idempotencyKey: string | null,
  now: Date,
): Execution {
  return {
    id: newExecutionId(now),
    session_id: session.id,
    tenant,
    status: "pending",
    code: input.code,
    language: input.language,
    timeout: input.timeout,
    event: input.event,
    stdin: input.stdin,
    exit_code: null,
    reason: null,
    error_message: null,
    execution_time: null,
    stdout: "",
    stderr: "",
    stdout_bytes: 0,
    stderr_bytes: 0,
    stdout_truncated: false,
    stderr_truncated: false,
    return_value: null,
    artifacts: [],
    metrics: null,
    env_vars: input.env_vars,
    retry_count: 0,
    created_at: now.toISOString(),
    started_at: null,
    completed_at: null,
    idempotency_key: idempotencyKey,
    last_seq: null,
    journaled: false,
    timing: {},
  };
}
