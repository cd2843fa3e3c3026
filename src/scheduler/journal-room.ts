import { AppError } from "../errors.ts";
import type { Execution, ExecutionStore } from "../executions/execution.ts";
import type { Executor, JournalName } from "../executor/protocol.ts";
import type { Log } from "../log.ts";
import type { Provisioner } from "../provisioners/provisioner.ts";

export type JournalRoomDeps = {
  executions: Pick<ExecutionStore, "liveAmong">;
  provisioner: Pick<Provisioner, "executorOf">;
  log: Log;
};

/** Sessions that are remembered between two passes; of the others the next execution reminds. */
const MAX_SESSIONS = 10_000;
const EXECUTORS_AT_ONCE = 8;

/**
 * Makes room for journals: an executor whose disk for them is nearly full names its oldest that have ended, and those go
 * whose record says how they ended. Only executors are asked whose executions have ended since the last pass.
 */
export class JournalRoom {
  readonly #d: JournalRoomDeps;
  readonly #sessionIds = new Set<string>();
  #passing: Promise<void> | null = null;

  constructor(deps: JournalRoomDeps) {
    this.#d = deps;
  }

  ended({ session_id: id }: Execution): void {
    if (this.#sessionIds.size < MAX_SESSIONS) this.#sessionIds.add(id);
  }

  /** Passes never overlap. Never rejects. */
  pass(): Promise<void> {
    this.#passing ??= this.#pass().finally(() => (this.#passing = null));
    return this.#passing;
  }

  async #pass(): Promise<void> {
    const executors = new Set<Executor>();
    for (const id of this.#sessionIds) {
      const executor = await this.#d.provisioner.executorOf(id).catch(() => null);
      if (executor !== null) executors.add(executor);
    }
    this.#sessionIds.clear();
    const waiting = [...executors];
    const work = async (): Promise<void> => {
      for (let executor = waiting.pop(); executor !== undefined; executor = waiting.pop())
        await this.#make(executor).catch((error: unknown) => this.#say(error));
    };
    await Promise.all(Array.from({ length: EXECUTORS_AT_ONCE }, work));
  }

  async #make(executor: Executor): Promise<void> {
    const surplus = await executor.surplusJournals();
    if (surplus.length === 0) return;
    const live = new Set(await this.#d.executions.liveAmong(surplus.map(({ id }) => id)));
    const stored = surplus.filter(({ id }: JournalName) => !live.has(id));
    for (const { id, sandboxId } of stored) await executor.deleteExecution(id, sandboxId);
    this.#d.log.info("journals.removed", { count: stored.length, kept: live.size });
  }

  /** One that has gone has no journals any more. */
  #say(error: unknown): void {
    if (error instanceof AppError && error.code === "executor_unavailable") return;
    this.#d.log.warn("journals.no_room_made", { error });
  }
}
