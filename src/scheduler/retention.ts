import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { AgedExecution, ExecutionStore } from "../executions/execution.ts";
import type { Log } from "../log.ts";
import type { Provisioner } from "../provisioners/provisioner.ts";
import type { AgedPage, SessionStore } from "../sessions/session.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { UpkeepPiece } from "./upkeep.ts";

export type RetentionDeps = {
  sessions: Pick<SessionStore, "endedBefore">;
  executions: Pick<ExecutionStore, "endedBefore" | "delete">;
  provisioner: Pick<Provisioner, "executorOf">;
  clock: Clock;
  /** Milliseconds since any fixed instant, by a clock that nobody sets. */
  elapsedMs(): number;
  log: Log;
  /** How long an ended session is kept; null is for ever. */
  sessionMs: number | null;
  /** How long an ended execution is kept; null is as long as its session. */
  executionMs: number | null;
  /** Removes all that is kept of an ended session. */
  forget: Sessions["forget"];
};

const EVERY_MS = 3600_000;
/** Records that are read at once. */
const PAGE = 200;
const MIN_PAUSE_MS = 5;
/** Corrections of the clock up to this are no jump, also those that add up over weeks. */
const JUMP_MS = 3600_000;
const DISTRUST_MS = 24 * 3600_000;

/** Deletes sessions and executions that ended long ago. It rests for as long as it worked, so that requests come first. */
export class Retention implements UpkeepPiece {
  readonly name = "retention";
  readonly everyMs = EVERY_MS;
  readonly #d: RetentionDeps;
  /** What the clock was ahead of `elapsedMs` when it was last looked at. */
  #offsetMs: number;
  #trustsFromMs = Number.NEGATIVE_INFINITY;

  constructor(deps: RetentionDeps) {
    this.#d = deps;
    this.#offsetMs = deps.clock.now().getTime() - deps.elapsedMs();
  }

  async run(signal: AbortSignal): Promise<void> {
    if (this.#distrustsClock()) return;
    const { sessionMs, executionMs, sessions, executions, log } = this.#d;
    let deletedSessions = 0;
    let deletedExecutions = 0;
    if (sessionMs !== null)
      await this.#walk(sessionMs, signal, sessions, async (ids) => {
        for (const id of ids) if (await this.#resting(signal, () => this.#forget(id))) deletedSessions += 1;
      });
    if (executionMs !== null)
      await this.#walk(executionMs, signal, executions, async (aged) => {
        if (aged.length > 0) await this.#resting(signal, () => this.#delete(aged));
        deletedExecutions += aged.length;
      });
    if (deletedSessions + deletedExecutions > 0)
      log.info("retention.deleted", { sessions: deletedSessions, executions: deletedExecutions });
  }

  /** A clock that has jumped may be wrong, and what is deleted does not come back: it is believed a day later. */
  #distrustsClock(): boolean {
    const elapsedMs = this.#d.elapsedMs();
    const offsetMs = this.#d.clock.now().getTime() - elapsedMs;
    const jumpMs = offsetMs - this.#offsetMs;
    this.#offsetMs = offsetMs;
    if (Math.abs(jumpMs) > JUMP_MS) {
      this.#trustsFromMs = elapsedMs + DISTRUST_MS;
      this.#d.log.warn("retention.clock_jumped", {
        jump_s: Math.round(jumpMs / 1000),
        note: "nothing is deleted for a day",
      });
    }
    return elapsedMs < this.#trustsFromMs;
  }

  async #walk<T>(
    ageMs: number,
    signal: AbortSignal,
    store: { endedBefore(before: string, after: number, now: string, limit: number): Promise<AgedPage<T>> },
    take: (items: T[]) => Promise<void>,
  ): Promise<void> {
    const now = this.#d.clock.now();
    const before = new Date(now.getTime() - ageMs).toISOString();
    for (let after: number | null = 0; after !== null && !signal.aborted;) {
      const page: AgedPage<T> = await store.endedBefore(before, after, now.toISOString(), PAGE);
      await take(page.items);
      after = page.next;
      await delay(MIN_PAUSE_MS);
    }
  }

  /** Does `work` unless it shall stop, then rests. */
  async #resting<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T | undefined> {
    if (signal.aborted) return undefined;
    const startedMs = performance.now();
    const done = await work();
    await delay(Math.max(MIN_PAUSE_MS, performance.now() - startedMs), undefined, { signal }).catch(() => {});
    return done;
  }

  /** One that can't be removed now is left for the next time. */
  async #forget(id: string): Promise<boolean> {
    try {
      await this.#d.forget(id);
      return true;
    } catch (error) {
      this.#d.log.warn("retention.session_kept", { session_id: id, error });
      return false;
    }
  }

  async #delete(aged: AgedExecution[]): Promise<void> {
    for (const one of aged) await this.#forgetJournal(one);
    await this.#d.executions.delete(aged);
  }

  /** Where there is no executor (any more) there is no journal; else the bound on journals takes what stays. */
  async #forgetJournal({ id, sessionId }: AgedExecution): Promise<void> {
    try {
      await (await this.#d.provisioner.executorOf(sessionId)).deleteExecution(id, sessionId);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
    }
  }
}
