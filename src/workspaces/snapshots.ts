import { AppError } from "../errors.ts";
import type { Executor, WorkspaceTree } from "../executor/protocol.ts";
import type { Log } from "../log.ts";
import type { Manifest, Objects } from "../objects/objects.ts";
import { latestVersion, storeVersion } from "../objects/versions.ts";
import type { Provisioner } from "../provisioners/provisioner.ts";
import { parseSize } from "../sessions/limits.ts";
import { isLive, type Session, type SessionStore } from "../sessions/session.ts";
import { Recent } from "../recent.ts";
import { within } from "../within.ts";
import { FairTurns } from "./fair-turns.ts";
import { storedName } from "./stored-name.ts";

export type SnapshotsDeps = {
  objects: Objects;
  provisioner: Pick<Provisioner, "executorOf">;
  sessions: Pick<SessionStore, "get" | "idsByStatus">;
  log: Log;
  /** As the collections of garbage have it. */
  graceMs: number;
};

type Queued = {
  running: Promise<void> | null;
  next: Promise<void> | null;
  timer: ReturnType<typeof setTimeout> | null;
};

/** Snapshots that are taken at once, three of them for the same tenant: an executor in a Pod may take its time. Each may hold 50 MB. */
const CONCURRENCY = 6;
/**
 * How long after an execution its files are stored: others that end meanwhile share the version. A workspace that takes
 * longer waits longer, so that storing takes no more than about a tenth of the time.
 */
const SOON_MS = { shortest: 250, longest: 10_000 };
const REST = 10;
const RETRY_MS = { first: 2000, longest: 15_000 };
/** Sessions whose last version is remembered, so that what did not change need not be read. */
const MAX_KNOWN = 1000;
/** How often another replica may store a version first. */
const MAX_RACES = 20;
/** How long an executor may take to tell what there is, and with how many bytes a millisecond it must send them. */
const TREE_MS = 60_000;
const LEAST_BYTES_A_MS = 1000;
/** What a file may take beside its bytes. */
const LEAST_FILE_MS = 10;
/** Versions of a workspace that stay: whoever reads the one before the last can end. */
const KEPT_VERSIONS = 2;

/**
 * Stores versions of workspaces that end with their sandbox. One snapshot at a time a session: whoever asks meanwhile shares
 * the next. A version is never older than one before it, whichever replica stored that.
 */
export class Snapshots {
  readonly #d: SnapshotsDeps;
  readonly #sessions = new Map<string, Queued>();
  /** The last version of workspaces, and the tag of its content. */
  readonly #known = new Recent<{ tag: string; version: number }>(MAX_KNOWN);
  /** Milliseconds that the last snapshot of sessions took. */
  readonly #tookMs = new Recent<number>(MAX_KNOWN);
  readonly #turns = new FairTurns(CONCURRENCY);
  #isStopping = false;

  constructor(deps: SnapshotsDeps) {
    this.#d = deps;
  }

  /** No more is taken up. */
  get isStopping(): boolean {
    return this.#isStopping;
  }

  /** Has a version stored shortly, and again later when that fails while the session lives. */
  soon(sessionId: string): void {
    const takesMs = this.#tookMs.get(sessionId) ?? 0;
    this.#after(sessionId, Math.min(Math.max(takesMs * REST, SOON_MS.shortest), SOON_MS.longest), RETRY_MS.first);
  }

  #after(sessionId: string, ms: number, retryMs: number): void {
    const queued = this.#queued(sessionId);
    if (this.#isStopping || queued.next !== null || queued.timer !== null) return;
    queued.timer = setTimeout(() => {
      queued.timer = null;
      this.now(sessionId).catch((error: unknown) => this.#failed(sessionId, error, retryMs));
    }, ms);
  }

  /** The last version of a session that has ended is stored by whoever ends it. */
  async #failed(sessionId: string, error: unknown, retryMs: number): Promise<void> {
    const session = await this.#d.sessions.get(sessionId).catch(() => undefined);
    if (session !== undefined && (session === null || !isLive(session))) return;
    if (!isTooLarge(error)) this.#d.log.warn("workspace.not_stored", { session_id: sessionId, error });
    if (!isFinal(error)) this.#after(sessionId, retryMs, Math.min(retryMs * 2, RETRY_MS.longest));
  }

  /** Resolves when a version is stored that has all that was in the workspace at the call. Throws AppError. */
  now(sessionId: string): Promise<void> {
    const queued = this.#queued(sessionId);
    if (queued.next !== null) return queued.next;
    const before = queued.running ?? Promise.resolve();
    const next = before
      .catch(() => {})
      .then(() => {
        queued.running = next;
        queued.next = null;
        return this.#storeInTurn(sessionId);
      })
      .finally(() => {
        queued.running = null;
        this.#forgetIdle(sessionId);
      });
    queued.next = next;
    return next;
  }

  /** Stores what waits for its time, and takes no more of it. Resolves when it is stored, or after `waitMs` milliseconds. */
  async stop(waitMs: number): Promise<void> {
    this.#isStopping = true;
    const due = [...this.#sessions].filter(([, { timer }]) => timer !== null);
    for (const [, { timer }] of due) clearTimeout(timer ?? undefined);
    const running = [...this.#sessions.values()].flatMap(({ running, next }) => [running, next]);
    await within(waitMs, Promise.allSettled([...running, ...due.map(([id]) => this.now(id))]));
  }

  #queued(sessionId: string): Queued {
    const queued = this.#sessions.get(sessionId) ?? { running: null, next: null, timer: null };
    this.#sessions.set(sessionId, queued);
    return queued;
  }

  #forgetIdle(sessionId: string): void {
    const queued = this.#sessions.get(sessionId);
    if (queued?.next === null && queued.timer === null && queued.running === null) this.#sessions.delete(sessionId);
  }

  async #storeInTurn(sessionId: string): Promise<void> {
    const session = await this.#d.sessions.get(sessionId);
    if (session !== null) await this.#turns.run(session.tenant, () => this.#store(session));
  }

  async #store(session: Session): Promise<void> {
    const sessionId = session.id;
    const executor = await this.#d.provisioner.executorOf(sessionId);
    const startedMs = performance.now();
    for (let race = 1; race <= MAX_RACES; race++) {
      try {
        await this.#storeOnce(session, executor);
        this.#tookMs.set(sessionId, performance.now() - startedMs);
        // A deletion that came meanwhile saw none of it.
        const now = await this.#d.sessions.get(sessionId);
        if (now?.created_at !== session.created_at) await this.#d.objects.deleteManifests(storedName(session));
        return;
      } catch (error) {
        if (isTooLarge(error)) this.#d.log.warn("workspace.not_stored", { session_id: sessionId, error });
        if (!(error instanceof AppError && error.code === "file_conflict")) throw translated(error);
      }
    }
    throw new AppError("store_unavailable", "the workspace is stored by others all the time", { retryAfterS: 1 });
  }

  async #storeOnce(session: Session, executor: Executor): Promise<void> {
    const { objects, graceMs, log } = this.#d;
    const workspace = storedName(session);
    const versions = await objects.versions(workspace);
    const last = versions.at(-1) ?? 0;
    const known = this.#known.get(workspace);
    const maxBytes = parseSize("disk", session.disk, Number.MAX_SAFE_INTEGER) * 2;
    // Read after the last version is known: what follows that one is then never older.
    const tag = known?.version === last ? known.tag : null;
    const signal = AbortSignal.timeout(TREE_MS);
    const tree = await executor.tree(session.id, { known: tag, maxBytes, signal });
    if (tree === null) return;
    const previous = last === 0 ? null : await latestVersion(objects, workspace);
    if (previous?.version !== (last === 0 ? undefined : last)) throw new AppError("file_conflict", "a newer version");
    if (isSame(previous, tree)) return this.#known.set(workspace, { tag: tree.tag, version: last });

    const startedMs = performance.now();
    const { entries, directories, links } = tree;
    const enough = patience(entries);
    const open = async ({ path, size }: { path: string; size: number }): Promise<ReadableStream<Uint8Array>> => {
      // No range has none of a file, which may have grown meanwhile.
      if (size === 0) return new Blob([]).stream();
      const range = new Headers({ Range: `bytes=0-${size - 1}` });
      const { status, body } = await executor.readFile(session.id, path, "GET", range, enough);
      const isEmpty = status === 416 || body === null;
      if (body instanceof ReadableStream && isEmpty) await body.cancel();
      return isEmpty ? new Blob([]).stream() : body instanceof Blob ? body.stream() : body;
    };
    const options = { graceMs, takesChanges: true };
    const stored = await storeVersion(objects, workspace, previous, { entries, directories, links }, open, options);
    // What was taken differently than the tree has it is read again next time.
    if (stored.entries.length === entries.length && stored.entries.every((one, i) => one === entries[i]))
      this.#known.set(workspace, { tag: tree.tag, version: stored.version });
    // One that stays now goes with the next version.
    if (versions.length >= KEPT_VERSIONS)
      await objects.deleteManifests(workspace, stored.version + 1 - KEPT_VERSIONS).catch(() => {});
    log.info("workspace.stored", {
      session_id: session.id,
      version: stored.version,
      files: entries.length,
      skipped: tree.skipped,
      ms: Math.round(performance.now() - startedMs),
    });
  }
}

function isSame(previous: Manifest | null, { entries, directories, links }: WorkspaceTree): boolean {
  if (previous === null) return entries.length + directories.length + links.length === 0;
  // Item by item, and not as texts: of a large workspace those take as much again.
  const stored = [previous.entries, previous.directories ?? [], previous.links ?? []];
  return Bun.deepEquals(stored, [entries, directories, links]);
}

/** For all files together, so that no executor keeps a place for long by being slow with each of many. */
function patience(entries: WorkspaceTree["entries"]): AbortSignal {
  const bytes = entries.reduce((sum, { size }) => sum + size, 0);
  return AbortSignal.timeout(TREE_MS + Math.ceil(bytes / LEAST_BYTES_A_MS) + LEAST_FILE_MS * entries.length);
}

function translated(error: unknown): unknown {
  if (error instanceof AppError || (error as Error).name !== "TimeoutError") return error;
  return new AppError("executor_unavailable", "the executor is silent", { cause: error, retryAfterS: 1 });
}

/** What no other attempt changes: the sandbox is gone, or its workspace is larger than a version can be. */
function isFinal(error: unknown): boolean {
  return isTooLarge(error) || (error instanceof AppError && error.code === "session_not_found");
}

function isTooLarge(error: unknown): boolean {
  return error instanceof AppError && error.code === "body_too_large";
}
