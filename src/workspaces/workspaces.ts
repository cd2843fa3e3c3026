import { AppError } from "../errors.ts";
import type { Executor, FileEntry, FileRead, FileWritten } from "../executor/protocol.ts";
import type { Provisioner } from "../provisioners/provisioner.ts";
import type { Session } from "../sessions/session.ts";
import type { Sessions } from "../sessions/sessions.ts";

/**
 * The operations on a session's files. Paths are relative to the workspace; one that is absolute or leaves it is
 * `invalid_path`, one that is not there `file_not_found`, another tenant's session `session_not_found`. The files of an
 * ended session can be read until it is deleted, and no longer changed (`session_ended`).
 */
export class Workspaces {
  readonly #sessions: Sessions;
  readonly #provisioner: Provisioner;

  constructor(sessions: Sessions, provisioner: Provisioner) {
    this.#sessions = sessions;
    this.#provisioner = provisioner;
  }

  async #executorOf(tenant: string, sessionId: string): Promise<Executor> {
    await this.#settled(tenant, sessionId);
    return this.#provisioner.executorOf(sessionId);
  }

  async #executorToChange(tenant: string, sessionId: string): Promise<Executor> {
    const { status } = await this.#settled(tenant, sessionId);
    if (status === "failed" || status === "terminated")
      throw new AppError("session_ended", `session ${sessionId} is ${status}`);
    return this.#provisioner.executorOf(sessionId);
  }

  async #settled(tenant: string, sessionId: string): Promise<Session> {
    let session = await this.#sessions.get(tenant, sessionId);
    if (session.status === "creating") session = await this.#sessions.settled(tenant, sessionId, 30_000);
    await this.#sessions.touch(session);
    return session;
  }

  /** What lies at `path`: the file itself, or a directory's entries (with `recursive` all below it), at most `limit`. */
  async list(
    tenant: string,
    sessionId: string,
    path: string,
    options: { recursive: boolean; limit: number },
  ): Promise<FileEntry[]> {
    return (await this.#executorOf(tenant, sessionId)).listFiles(sessionId, path, options);
  }

  /** The answer to the GET or HEAD with `headers`; status 416 is for the caller to turn into an error. */
  async read(
    tenant: string,
    sessionId: string,
    path: string,
    method: "GET" | "HEAD",
    headers: Headers,
    signal?: AbortSignal,
  ): Promise<FileRead> {
    return (await this.#executorOf(tenant, sessionId)).readFile(sessionId, path, method, headers, signal);
  }

  /** Stores a body atomically. Past `limitBytes` it is `body_too_large`, past the disk limit `disk_full`; nothing stays. */
  async write(
    tenant: string,
    sessionId: string,
    path: string,
    body: ReadableStream<Uint8Array>,
    limitBytes: number,
  ): Promise<FileWritten> {
    return (await this.#executorToChange(tenant, sessionId)).writeFile(sessionId, path, body, limitBytes);
  }

  async remove(tenant: string, sessionId: string, path: string): Promise<void> {
    await (await this.#executorToChange(tenant, sessionId)).removeFile(sessionId, path);
  }

  async move(tenant: string, sessionId: string, from: string, to: string): Promise<void> {
    await (await this.#executorToChange(tenant, sessionId)).moveFile(sessionId, from, to);
  }

  async makeDirectory(tenant: string, sessionId: string, path: string): Promise<void> {
    await (await this.#executorToChange(tenant, sessionId)).makeDirectory(sessionId, path);
  }
}
