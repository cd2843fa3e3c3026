import type { Changes } from "../changes.ts";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { ExecutionStore } from "../executions/execution.ts";
import type { Log } from "../log.ts";
import type { Provisioned, Provisioner } from "../provisioners/provisioner.ts";
import { AHEAD_MS, deadlineOf, type LifetimeBounds } from "../sessions/deadline.ts";
import { isInstalling } from "../sessions/dependencies.ts";
import type { DependencyInstaller } from "../sessions/dependency-installer.ts";
import { leaseFrom, LIVE_STATUSES, type Session, type SessionStore } from "../sessions/session.ts";

export type ReconcilerDeps = {
  sessions: SessionStore;
  executions: ExecutionStore;
  provisioner: Provisioner;
  changes: Changes<Session>;
  clock: Clock;
  log: Log;
  owner: string;
  leaseMs: number;
  /** A session that is `creating` for longer has failed. */
  creatingTimeoutMs: number;
  bounds: LifetimeBounds;
  installer: DependencyInstaller;
  /** Stores the files of a session that has ended where they end with its sandbox, which is released then. */
  storeFiles(session: Session): Promise<void>;
  /** Has the session reconciled again. */
  again(id: string): Promise<void>;
  /** Called when a session begins to run. */
  began(session: Session): void;
  /** Called once a sandbox was made for a new session, with the milliseconds that it took. */
  sandboxMade(session: Session, made: Provisioned, ms: number): void;
  /** Called when a running session had lost its sandbox and got a new one. */
  corrected(what: "sandbox_remade"): void;
};

/** Pause before an installation that the executor could not take is tried again. */
const INSTALL_RETRY_MS = 2000;

export type StepOptions = {
  /** Its sandbox is known to be gone: a running session gets a new one on the same workspace. */
  sandboxLost?: boolean;
  /** The files of a session that has ended need not be kept. */
  filesGo?: boolean;
  /** Ends the waiting for a sandbox. */
  signal?: AbortSignal;
};

/** One level-triggered step: compares a session's row with its sandbox and brings the two together. Safe to repeat. */
export class SessionReconciler {
  readonly #d: ReconcilerDeps;

  constructor(deps: ReconcilerDeps) {
    this.#d = deps;
  }

  async step(id: string, { sandboxLost = false, filesGo = false, signal }: StepOptions = {}): Promise<void> {
    const session = await this.#d.sessions.get(id);
    if (session === null) return;
    if (session.status === "creating") return this.#create(session, signal);
    if (session.status !== "running") return this.#release(session, filesGo);
    const nowMs = this.#d.clock.now().getTime();
    if (Date.parse(session.expires_at) <= nowMs) return this.#expire(session);
    if (Date.parse(session.last_activity_at) > nowMs + AHEAD_MS) await this.#timeAnew(session);
    if (sandboxLost) await this.#recover(session, signal);
  }

  async #create(session: Session, signal?: AbortSignal): Promise<void> {
    const { sessions, clock, provisioner } = this.#d;
    const now = clock.now();
    const lease = leaseFrom(now, this.#d.owner, this.#d.leaseMs);
    if (!(await sessions.claim(session.id, lease, now.toISOString()))) return;
    if (this.#d.installer.isRunning(session.id)) return;
    const mustInstall = session.requested_dependencies.length > 0;
    const limitMs = this.#d.creatingTimeoutMs + (mustInstall ? session.install_timeout * 1000 : 0);
    if (now.getTime() - Date.parse(session.created_at) > limitMs)
      return this.#fail(session, "creating_timeout", `the sandbox was not ready after ${limitMs / 1000} s`);
    if (mustInstall && ["pending", "installing"].includes(session.dependency_install_status)) {
      void this.#install(session);
      return;
    }
    try {
      const startedMs = performance.now();
      const made = await provisioner.ensure(session, signal);
      this.#d.sandboxMade(session, made, performance.now() - startedMs);
      const at = clock.now();
      const fields = {
        status: "running" as const,
        workspace_path: made.sandbox.workspacePath,
        runtime_node: made.runtimeNode,
        container_id: made.containerId,
        pod_name: made.podName,
        last_activity_at: at.toISOString(),
        expires_at: deadlineOf(session, at, this.#d.bounds),
        updated_at: at.toISOString(),
      };
      if (!(await sessions.update(session.id, fields, ["creating"], session.created_at))) return this.step(session.id);
      const running = { ...session, ...fields };
      this.#d.changes.notify(session.id, running);
      this.#d.began(running);
    } catch (error) {
      if (!isRefusal(error) && !isLasting(error)) throw error;
      await this.#fail(session, error.code, error.message);
    }
  }

  /** Beside the steps, which never wait for an installation; the lease is held meanwhile. */
  async #install(session: Session): Promise<void> {
    const { sessions, clock, owner, leaseMs, installer, log } = this.#d;
    const renew = (): void => {
      const now = clock.now();
      const lease = leaseFrom(now, owner, leaseMs);
      sessions.claim(session.id, lease, now.toISOString()).catch((error: unknown) => {
        log.warn("session.lease_lost", { session_id: session.id, error });
      });
    };
    const timer = setInterval(renew, leaseMs / 3);
    try {
      await installer.install(session, session);
    } catch (error) {
      // What the installer said is the caller's: the record has it.
      const shown = error instanceof AppError && error.code === "dependency_failed" ? { code: error.code } : { error };
      log.warn("session.install_failed", { session_id: session.id, ...shown });
      await this.#installFailed(session, error);
    } finally {
      clearInterval(timer);
    }
    await this.#d.again(session.id);
  }

  async #installFailed(session: Session, error: unknown): Promise<void> {
    try {
      if (isLasting(error)) await this.#fail(session, error.code, error.message);
      else if (!isRefusal(error)) await Bun.sleep(INSTALL_RETRY_MS);
      else if (session.fail_on_dependency_error && error.code === "dependency_failed")
        await this.#fail(
          (await this.#d.sessions.get(session.id)) ?? session,
          error.code,
          `the dependencies could not be installed: ${error.message}`,
        );
    } catch (failure) {
      this.#d.log.warn("session.step_failed", { session_id: session.id, error: failure });
    }
  }

  async #recover(session: Session, signal?: AbortSignal): Promise<void> {
    this.#d.log.warn("session.recovering", { session_id: session.id });
    try {
      await this.#d.provisioner.ensure(session, signal);
      this.#d.corrected("sandbox_remade");
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await this.#fail(session, error.code, `the sandbox was lost and could not be made again: ${error.message}`);
    }
  }

  async #fail(session: Session, code: string, message: string): Promise<void> {
    await this.#end(session, { status: "failed", error_message: message }, code);
  }

  async #expire(session: Session): Promise<void> {
    const now = this.#d.clock.now();
    const busy =
      isInstalling(session, now.getTime()) || (await this.#d.executions.countLive({ sessionId: session.id })) > 0;
    if (busy && !this.#pastLifetime(session, now)) {
      const fields = { expires_at: deadlineOf(session, now, this.#d.bounds) };
      await this.#d.sessions.update(session.id, fields, ["running"], session.created_at);
      return;
    }
    await this.#end(session, { status: "terminated", error_message: null }, "expired");
  }

  /** The clock was set back: without this the session would live for as long as that again. */
  async #timeAnew(session: Session): Promise<void> {
    const now = this.#d.clock.now();
    const expiresAt = deadlineOf(session, now, this.#d.bounds);
    const fields = { last_activity_at: now.toISOString(), expires_at: expiresAt };
    await this.#d.sessions.update(session.id, fields, ["running"], session.created_at);
  }

  #pastLifetime(session: Session, now: Date): boolean {
    const { lifetimeMs } = this.#d.bounds;
    return lifetimeMs !== null && now.getTime() - Date.parse(session.created_at) >= lifetimeMs;
  }

  async #end(
    session: Session,
    end: { status: "failed" | "terminated"; error_message: string | null },
    code: string,
  ): Promise<void> {
    const at = this.#d.clock.now().toISOString();
    const fields = { ...end, completed_at: at, updated_at: at };
    if (await this.#d.sessions.update(session.id, fields, LIVE_STATUSES, session.created_at)) {
      this.#d.changes.notify(session.id, { ...session, ...fields });
      const livedS = Math.round((Date.parse(at) - Date.parse(session.created_at)) / 1000);
      // The record has the message, which may quote what an installer or a Pod said.
      this.#d.log.info("session.ended", { session_id: session.id, status: end.status, code, lived_s: livedS });
    } else if ((await this.#d.sessions.get(session.id))?.created_at !== session.created_at) return;
    await this.#release(session);
  }

  async #release(session: Session, filesGo = false): Promise<void> {
    if (!filesGo) await this.#d.storeFiles(session);
    await this.#d.provisioner.release(session.id, { deleteWorkspace: false });
    await this.#d.sessions.release(session.id, this.#d.owner);
  }
}

/** A new session does not wait for an operator. */
function isLasting(error: unknown): error is AppError {
  return error instanceof AppError && error.isLasting;
}

/** An answer that no retry changes, as against an executor or store that can't be reached now. */
function isRefusal(error: unknown): error is AppError {
  return error instanceof AppError && error.status !== 503 && error.status !== 429 && error.code !== "internal";
}
