import type { Changes } from "../changes.ts";
import { AppError } from "../errors.ts";
import type { Provisioner } from "../provisioners/provisioner.ts";
import { isLive, type Execution, type ExecutionStore } from "./execution.ts";
import { readJournal, type JournalEntry } from "./journal-entry.ts";
import { recordedEvents } from "./recorded-events.ts";

export type FollowDeps = { store: ExecutionStore; provisioner: Provisioner; changes: Changes<Execution> };

/**
 * How long a reader waits for news before it looks again, in milliseconds: for an executor to accept, which is a matter of
 * moments when another replica has just been given the execution, and for a row to end.
 */
const ACCEPT_RECHECK_MS = { first: 4, longest: 250 };
const END_RECHECK_MS = { first: 4, longest: 50 };
/** How long a reader of what has ended waits for an executor that can't be reached, before the record must do. */
const PATIENCE_MS = 12_000;

/** See Executions.follow. */
export async function* followExecution(
  deps: FollowDeps,
  execution: Execution,
  after: number,
  signal: AbortSignal,
): AsyncGenerator<JournalEntry[]> {
  let seq = after;
  let current = execution;
  let recheckMs = ACCEPT_RECHECK_MS.first;
  let failedSinceMs: number | null = null;
  if (seq < 1) {
    yield [{ seq: 1, type: "status", json: JSON.stringify({ status: "pending", at: execution.created_at }) }];
    seq = 1;
  }
  while (!signal.aborted) {
    if (!isLive(current) && (!current.journaled || seq >= (current.last_seq ?? 0))) return yield [endOf(current, seq)];
    const news = deps.changes.wait(current.id, recheckMs, signal);
    recheckMs = Math.min(recheckMs * 2, ACCEPT_RECHECK_MS.longest);
    try {
      for await (const batch of openJournal(deps, current, seq, signal)) {
        const last = batch.at(-1);
        if (last === undefined) continue;
        recheckMs = ACCEPT_RECHECK_MS.first;
        failedSinceMs = null;
        if (last.type !== "end") {
          seq = last.seq;
          yield batch;
          continue;
        }
        // When this fails, the whole batch is read again.
        const ended = await waitForEnd(deps, current, signal);
        yield [...batch.slice(0, -1), { ...last, execution: ended }];
        return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof AppError)) throw error;
      if (!isLive(current) && isGone(error)) return yield* recordedEvents(current, seq);
      failedSinceMs ??= performance.now();
      if (!isLive(current) && performance.now() - failedSinceMs > PATIENCE_MS)
        return yield* recordedEvents(current, seq);
    }
    await news;
    current = (await deps.store.get(current.id)) ?? gone(current.id);
  }
}

async function* openJournal(
  deps: FollowDeps,
  execution: Execution,
  after: number,
  signal: AbortSignal,
): AsyncGenerator<JournalEntry[]> {
  const executor = await deps.provisioner.executorOf(execution.session_id);
  yield* readJournal(await executor.journal(execution.id, after, signal));
}

/** The record once it says how the execution ended: its follower stores that within moments of the journal's last entry. */
async function waitForEnd(deps: FollowDeps, execution: Execution, signal: AbortSignal): Promise<Execution> {
  for (let waitMs = END_RECHECK_MS.first; ; waitMs = Math.min(waitMs * 2, END_RECHECK_MS.longest)) {
    const news = deps.changes.wait(execution.id, waitMs, signal);
    const row = (await deps.store.get(execution.id)) ?? gone(execution.id);
    if (!isLive(row)) return row;
    signal.throwIfAborted();
    const changed = await news;
    if (changed !== undefined && !isLive(changed)) return changed;
  }
}

/** No executor has the journal (any more). */
function isGone({ code }: AppError): boolean {
  return code === "execution_not_found" || code === "session_not_found";
}

/**
 * The last entry, for a reader who had it already or whose execution no executor ever had. It has the number of the
 * journal's own; only where the executor was lost may readers have come further than what was stored.
 */
function endOf(execution: Execution, seq: number): JournalEntry {
  const last = execution.last_seq ?? seq + 1;
  const number = execution.status === "crashed" ? Math.max(seq + 1, last) : last;
  return { seq: number, type: "end", json: "{}", execution };
}

function gone(id: string): never {
  throw new AppError("execution_not_found", `there is no execution ${id}`);
}
