import type { Changes } from "../changes.ts";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { Layer } from "../executor/protocol.ts";
import type { Provisioner } from "../provisioners/provisioner.ts";
import { layerRequest } from "./dependencies.ts";
import { isLive, LIVE_STATUSES, type InstalledDependency, type Session, type SessionStore } from "./session.ts";

export type DependencyInstallerDeps = {
  store: SessionStore;
  provisioner: Provisioner;
  changes: Changes<Session>;
  clock: Clock;
};

/** What an installation is for, as the session will have it. */
export type Installation = Pick<Session, "requested_dependencies" | "python_package_index_url" | "install_timeout">;

/** Installs packages for sessions and keeps their rows up to date about it. At most one installation of a session runs. */
export class DependencyInstaller {
  readonly #d: DependencyInstallerDeps;
  readonly #running = new Set<string>();

  constructor(deps: DependencyInstallerDeps) {
    this.#d = deps;
  }

  isRunning(sessionId: string): boolean {
    return this.#running.has(sessionId);
  }

  /**
   * Installs what is wanted and answers the session with it. The packages of before stay when it fails, with an AppError
   * that the row then shows too, unless the executor could not be asked (503, 429): the row's status is what it was then.
   */
  async install(session: Session, installation: Installation): Promise<Session> {
    // Nothing else of it, since it may be all of a session as it was when the installation began.
    const { requested_dependencies, python_package_index_url, install_timeout } = installation;
    const wanted = { requested_dependencies, python_package_index_url, install_timeout };
    if (this.#running.has(session.id))
      throw new AppError("install_in_progress", "an installation of this session is running");
    this.#running.add(session.id);
    try {
      const began = await this.#begin(session);
      const layer = await this.#layerOf(began, wanted, session);
      const installed = await this.#write(began, {
        ...wanted,
        installed_dependencies: this.#installedOf(layer),
        dependency_install_status: "completed",
        dependency_install_completed_at: this.#now(),
      });
      if (session.status === "running") await this.#use(session.id, layer);
      return installed;
    } finally {
      this.#running.delete(session.id);
    }
  }

  /** Throws `install_in_progress` when another replica began one since the session was read. */
  async #begin(session: Session): Promise<Session> {
    const fields = {
      dependency_install_status: "installing",
      dependency_install_started_at: this.#now(),
      dependency_install_completed_at: null,
      dependency_install_error: null,
      updated_at: this.#now(),
    } as const;
    if (!(await this.#d.store.beginInstallation(session, fields))) {
      const row = await this.#d.store.get(session.id);
      if (row === null || !isLive(row)) throw new AppError("session_ended", `session ${session.id} has ended`);
      throw new AppError("install_in_progress", "an installation of this session is running");
    }
    const began = { ...session, ...fields };
    this.#d.changes.notify(session.id, began);
    return began;
  }

  async #layerOf(session: Session, wanted: Installation, before: Session): Promise<Layer> {
    try {
      return await this.#d.provisioner.ensureLayer({ ...session, ...wanted }, layerRequest({ ...session, ...wanted }));
    } catch (error) {
      if (error instanceof AppError && (error.status === 503 || error.status === 429)) {
        await this.#write(session, { dependency_install_status: before.dependency_install_status });
        throw error;
      }
      const failure =
        error instanceof AppError && error.status < 500
          ? new AppError("dependency_failed", error.message, { cause: error })
          : new AppError("dependency_failed", "the packages could not be installed", { cause: error });
      await this.#write(session, {
        dependency_install_status: "failed",
        dependency_install_error: failure.message,
        dependency_install_completed_at: this.#now(),
      });
      throw failure;
    }
  }

  #installedOf(layer: Layer): InstalledDependency[] {
    const place = { install_location: layer.path, install_time: this.#now(), is_from_template: false };
    return layer.packages.map((one) => ({ ...one, ...place }));
  }

  /** A sandbox that is not there now gets its layers from the row when it is made again. */
  async #use(sessionId: string, layer: Layer): Promise<void> {
    try {
      await (await this.#d.provisioner.executorOf(sessionId)).setLayers(sessionId, [layer.name]);
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "session_not_found") throw error;
    }
  }

  /** Throws `session_ended` when the session is not live any more. */
  async #write(session: Session, fields: Partial<Session>): Promise<Session> {
    const written = { ...fields, updated_at: this.#now() };
    if (!(await this.#d.store.update(session.id, written, LIVE_STATUSES, session.created_at)))
      throw new AppError("session_ended", `session ${session.id} has ended`);
    const changed = { ...session, ...written };
    this.#d.changes.notify(session.id, changed);
    return changed;
  }

  #now(): string {
    return this.#d.clock.now().toISOString();
  }
}
