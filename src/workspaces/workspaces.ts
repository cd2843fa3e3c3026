import { setTimeout as delay } from "node:timers/promises";
import { AppError } from "../errors.ts";
import type { Executor, FileEntry, FileRead, FileWritten } from "../executor/protocol.ts";
import type { Objects } from "../objects/objects.ts";
import type { Provisioner } from "../provisioners/provisioner.ts";
import { parseSize } from "../sessions/limits.ts";
import { isLive, type Session } from "../sessions/session.ts";
import type { Sessions } from "../sessions/sessions.ts";
import { FairTurns } from "./fair-turns.ts";
import { StoredFiles } from "./stored-files.ts";
import { within } from "../within.ts";
import type { WorkspaceVersions } from "./workspace-versions.ts";

export type WorkspacesDeps = {
  sessions: Pick<Sessions, "get" | "settled" | "touch">;
  provisioner: Pick<Provisioner, "executorOf">;
  objects: Objects;
  /** Null where workspaces stay by themselves until they are deleted. */
  versions: WorkspaceVersions | null;
  /** How long what was stored for a URL alone stays in the store. */
  graceMs: number;
};

/** A file in the object store, as anybody can download it until `expiresAt`. */
export type PresignedFile = { url: string; expiresAt: Date; size: number };

/** How long a call waits for a session's sandbox, at its start and when it was lost. */
const READY_MS = 30_000;
const ASK_MS = 2000;
/** How long a URL of the object store works. */
const URL_MS = 3600_000;
/** How long a file may take on its way to the object store, and with it what a caller waits for. */
const COPY_MS = 5 * 60_000;
const RETRY_MS = 100;
/** Versions that are read at the same time: a large one takes tens of megabytes until it is. */
const MAX_OPENING = 4;

/**
 * The operations on a session's files. Paths are relative to the workspace; one that is absolute or leaves it is
 * `invalid_path`, one that is not there `file_not_found`, another tenant's session `session_not_found`. The files of an
 * ended session can be read until it is deleted, and no longer changed (`session_ended`). A change that was answered
 * survives the sandbox: where workspaces end with it, it is stored before.
 */
export class Workspaces {
  readonly #d: WorkspacesDeps;
  readonly #opening = new FairTurns(MAX_OPENING);

  constructor(deps: WorkspacesDeps) {
    this.#d = deps;
  }

  async #settled(tenant: string, sessionId: string): Promise<Session> {
    let session = await this.#d.sessions.get(tenant, sessionId);
    if (session.status === "creating") session = await this.#d.sessions.settled(tenant, sessionId, READY_MS);
    await this.#d.sessions.touch(session);
    return session;
  }

  /**
   * Runs `use` on the session. When that fails for want of a sandbox because the session has ended or was deleted meanwhile,
   * it is what it is on such a session.
   */
  async #on<T>(tenant: string, sessionId: string, use: (session: Session) => Promise<T>): Promise<T> {
    const session = await this.#settled(tenant, sessionId);
    try {
      return await use(session);
    } catch (error) {
      if (!isLive(session) || !isLoss(error)) throw error;
      const now = await this.#d.sessions.get(tenant, sessionId);
      if (isLive(now)) throw error;
      return use(now);
    }
  }

  /** Who answers for the files as they are now. */
  async #sourceOf(session: Session): Promise<Pick<Executor, "listFiles" | "readFile">> {
    const { versions, objects } = this.#d;
    if (versions === null || isLive(session)) return this.#executorOf(session);
    return this.#opening.run(session.tenant, async () => new StoredFiles(objects, await versions.last(session)));
  }

  /** Where workspaces end with their sandbox, it may just be made again from the last version. */
  async #executorOf(session: Session): Promise<Executor> {
    const { versions, provisioner } = this.#d;
    if (versions === null) return provisioner.executorOf(session.id);
    let failure: unknown;
    for (const end = performance.now() + READY_MS; performance.now() < end; await delay(RETRY_MS)) {
      try {
        const executor = await provisioner.executorOf(session.id);
        const present = await within(ASK_MS, executor.listSandboxes());
        if (present?.some(({ id }) => id === session.id) === true) return executor;
      } catch (error) {
        failure = error;
      }
      if (!isLive(await this.#d.sessions.get(session.tenant, session.id))) break;
    }
    throw new AppError("executor_unavailable", "the session's sandbox is not there", {
      cause: failure,
      retryAfterS: 1,
    });
  }

  /** Runs `change` on the workspace of a live session, and stores what it did. */
  #change<T>(tenant: string, sessionId: string, change: (executor: Executor) => Promise<T>): Promise<T> {
    return this.#on(tenant, sessionId, async (session) => {
      if (!isLive(session)) throw new AppError("session_ended", `session ${sessionId} is ${session.status}`);
      const changed = await change(await this.#executorOf(session));
      await this.#d.versions?.store(sessionId).catch((error: unknown) => {
        // No version of it can be kept, which the log says; an execution of the session is told nothing of it either.
        if (!(error instanceof AppError && error.code === "body_too_large")) throw error;
      });
      return changed;
    });
  }

  /** What lies at `path`: the file itself, or a directory's entries (with `recursive` all below it), at most `limit`. */
  list(
    tenant: string,
    sessionId: string,
    path: string,
    options: { recursive: boolean; limit: number },
  ): Promise<FileEntry[]> {
    return this.#on(tenant, sessionId, async (session) =>
      (await this.#sourceOf(session)).listFiles(sessionId, path, options),
    );
  }

  /** The answer to the GET or HEAD with `headers`; status 416 is for the caller to turn into an error. */
  read(
    tenant: string,
    sessionId: string,
    path: string,
    method: "GET" | "HEAD",
    headers: Headers,
    signal?: AbortSignal,
  ): Promise<FileRead> {
    return this.#on(tenant, sessionId, async (session) =>
      (await this.#sourceOf(session)).readFile(sessionId, path, method, headers, signal),
    );
  }

  /** A URL from which anybody can download the file as it is now. `not_implemented` where the object store gives none. */
  async presign(tenant: string, sessionId: string, path: string, contentDisposition: string): Promise<PresignedFile> {
    const { sha256, size } = await this.#on(tenant, sessionId, (session) => {
      if (!this.#d.objects.givesUrls)
        throw new AppError("not_implemented", "this server's object store has no presigned URLs");
      return this.#stored(session, path);
    });
    // It stays for as long as the URL works, whatever becomes of the version that names it.
    await this.#d.objects.renew(sha256, Date.now() - this.#d.graceMs / 4);
    const expiresS = Math.max(1, Math.floor(Math.min(URL_MS, this.#d.graceMs / 2) / 1000));
    const expiresAt = new Date(Date.now() + expiresS * 1000);
    const contentType = "application/octet-stream";
    const url = await this.#d.objects.presign(sha256, { expiresS, contentType, contentDisposition });
    if (url === null) throw new AppError("internal", "a stored file is not in the store");
    return { url, expiresAt, size };
  }

  /** The files of a live session as they are stored now; null where, or while, versions of them are not kept. */
  async #versionOf(session: Session): Promise<StoredFiles | null> {
    const { versions, objects } = this.#d;
    if (versions === null || !isLive(session)) return null;
    await this.#executorOf(session);
    try {
      await versions.store(session.id);
    } catch (error) {
      if (error instanceof AppError && error.code === "body_too_large") return null;
      throw error;
    }
    return this.#opening.run(session.tenant, async () => new StoredFiles(objects, await versions.last(session)));
  }

  /** The blob of a file; that of a workspace which is there is put into the store first. */
  async #stored(session: Session, path: string): Promise<{ sha256: string; size: number }> {
    const source = (await this.#versionOf(session)) ?? (await this.#sourceOf(session));
    if (source instanceof StoredFiles) return source.fileAt(path);
    const enough = AbortSignal.timeout(COPY_MS);
    const { body } = await source.readFile(session.id, path, "GET", new Headers(), enough);
    const limitBytes = parseSize("disk", session.disk, Number.MAX_SAFE_INTEGER) * 2;
    return this.#d.objects.put(body instanceof ReadableStream ? body : (body ?? new Blob([])).stream(), { limitBytes });
  }

  /** Stores a body atomically. Past `limitBytes` it is `body_too_large`, past the disk limit `disk_full`; nothing stays. */
  write(
    tenant: string,
    sessionId: string,
    path: string,
    body: ReadableStream<Uint8Array>,
    limitBytes: number,
  ): Promise<FileWritten> {
    return this.#change(tenant, sessionId, (executor) => executor.writeFile(sessionId, path, body, limitBytes));
  }

  async remove(tenant: string, sessionId: string, path: string): Promise<void> {
    await this.#change(tenant, sessionId, (executor) => executor.removeFile(sessionId, path));
  }

  async move(tenant: string, sessionId: string, from: string, to: string): Promise<void> {
    await this.#change(tenant, sessionId, (executor) => executor.moveFile(sessionId, from, to));
  }

  async makeDirectory(tenant: string, sessionId: string, path: string): Promise<void> {
    await this.#change(tenant, sessionId, (executor) => executor.makeDirectory(sessionId, path));
  }
}

/** That the sandbox can't be reached or is not there. */
function isLoss(error: unknown): boolean {
  return error instanceof AppError && (error.code === "executor_unavailable" || error.code === "session_not_found");
}
