import { AppError } from "../errors.ts";
import type { Execution, ExecutionStore } from "../executions/execution.ts";
import type { Executor, JournalName } from "../executor/protocol.ts";
import type { Log } from "../log.ts";
import type { Provisioner } from "../provisioners/provisioner.ts";
import { within } from "../within.ts";

export type JournalRoomDeps = {
  executions: Pick<ExecutionStore, "liveAmong">;
  provisioner: Pick<Provisioner, "executorOf">;
  log: Log;
};

/** Sessions that are remembered between two passes; of the others the next execution reminds. */
const MAX_SESSIONS = 10_000;
const EXECUTORS_AT_ONCE = 8;
/** What an executor may name at once; in a Pod it may be anybody. */
const MAX_NAMES = 1000;
const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
/** How long the others wait for one executor. */
const EXECUTOR_MS = 30_000;

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
        await within(EXECUTOR_MS, this.#make(executor)).catch((error: unknown) => this.#say(error));
    };
    await Promise.all(Array.from({ length: EXECUTORS_AT_ONCE }, work));
  }

  async #make(executor: Executor): Promise<void> {
    const surplus = checkedNames(await executor.surplusJournals());
    if (surplus.length === 0) return;
    const live = new Set(await this.#d.executions.liveAmong(surplus.map(({ id }) => id)));
    const stored = surplus.filter(({ id }: JournalName) => !live.has(id));
    for (const { id, sandboxId } of stored) await executor.deleteExecution(id, sandboxId);
    this.#d.log.info("journals.removed", { count: stored.length, kept: live.size });
  }

  /** One that has gone has no journals any more, one of an older program names none. */
  #say(error: unknown): void {
    if (error instanceof AppError && (error.code === "executor_unavailable" || error.code === "not_found")) return;
    this.#d.log.warn("journals.no_room_made", { error });
  }
}

function checkedNames(told: unknown): JournalName[] {
  const names = (Array.isArray(told) ? told.slice(0, MAX_NAMES) : []) as Partial<JournalName>[];
  const isId = (id: unknown): boolean => typeof id === "string" && ID.test(id);
  return names.filter((name): name is JournalName => isId(name?.id) && isId(name?.sandboxId));
}
