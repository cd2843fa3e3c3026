import { setTimeout as delay } from "node:timers/promises";
import { AppError } from "../errors.ts";
import type { Manifest } from "../objects/objects.ts";
import { latestVersion } from "../objects/versions.ts";
import type { Session } from "../sessions/session.ts";
import { Snapshots, type SnapshotsDeps } from "./snapshots.ts";
import { storedName } from "./stored-name.ts";
import { within } from "../within.ts";

/** Sessions that are listed at once to catch up, and the milliseconds that each gets. */
const PAGE = 200;
const PACE_MS = 20;
/** How long the executor may take to end what runs, before the files are stored all the same. */
const END_MS = 5000;
/** How long a session that has ended keeps its sandbox for the sake of files that can't be stored. */
const GIVE_UP_MS = 5 * 60_000;
/** How long a reader waits for the last version of a session that has just ended. */
const SETTLE_MS = 5000;

/** The versions of workspaces that end with their sandbox, from the first to after its end. */
export class WorkspaceVersions {
  readonly #d: SnapshotsDeps;
  readonly #snapshots: Snapshots;

  constructor(deps: SnapshotsDeps) {
    this.#d = deps;
    this.#snapshots = new Snapshots(deps);
  }

  /** An execution has ended, which may have changed files: they are stored shortly. */
  mayHaveChanged(sessionId: string): void {
    this.#snapshots.soon(sessionId);
  }

  /**
   * Has the workspace of every running session stored, one after the other: a replica that was killed may have left out what
   * executions had changed. What did not change costs two questions.
   */
  async catchUp(): Promise<void> {
    try {
      for (let after = ""; !this.#snapshots.isStopping;) {
        const ids = await this.#d.sessions.idsByStatus(["running"], after, PAGE);
        for (const id of ids) {
          this.#snapshots.soon(id);
          await delay(PACE_MS, undefined, { ref: false });
        }
        after = ids.at(-1) ?? after;
        if (ids.length < PAGE) return;
      }
    } catch (error) {
      this.#d.log.warn("workspace.not_caught_up", { error });
    }
  }

  /** Resolves when all that is in the workspace now is stored. */
  store(sessionId: string): Promise<void> {
    return this.#snapshots.now(sessionId);
  }

  /**
   * Ends what runs in a session that has ended and stores its last version, before its sandbox is released. Throws what
   * another attempt may change.
   */
  async storeLast(session: Session): Promise<void> {
    if (session.runtime_node === null) return;
    try {
      const executor = await this.#d.provisioner.executorOf(session.id);
      await within(END_MS, executor.deleteSandbox(session.id, { deleteWorkspace: false }));
      await this.store(session.id);
    } catch (error) {
      const code = error instanceof AppError ? error.code : "internal";
      if (code === "session_not_found") return;
      const isLate = Date.now() - Date.parse(session.completed_at ?? session.updated_at) > GIVE_UP_MS;
      if (code !== "body_too_large" && !isLate) throw error;
      this.#d.log.error("workspace.lost_changes", { session_id: session.id, error });
    }
  }

  /** The last version of a session that has ended; null when it has none. */
  async last(session: Session): Promise<Manifest | null> {
    // While its sandbox is still there, the version may be on its way; if it can't be stored, the one before is the last.
    const isThere = await this.#d.provisioner.executorOf(session.id).then(
      () => true,
      () => false,
    );
    if (isThere) await within(SETTLE_MS, this.store(session.id)).catch(() => {});
    return latestVersion(this.#d.objects, storedName(session));
  }

  /** Stores what waits for its time, for at most `waitMs` milliseconds. */
  stop(waitMs: number): Promise<void> {
    return this.#snapshots.stop(waitMs);
  }

  /** Removes every version. Idempotent. */
  forget(session: Session): Promise<void> {
    return this.#d.objects.deleteManifests(storedName(session));
  }
}
