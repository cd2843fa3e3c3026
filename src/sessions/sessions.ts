import type { Changes, Wakeups } from "../changes.ts";
import type { Clock } from "../clock.ts";
import { AppError } from "../errors.ts";
import type { ExecutionStore } from "../executions/execution.ts";
import { newSessionId } from "../id.ts";
import type { Provisioner } from "../provisioners/provisioner.ts";
import type { Template, TemplateStore } from "../templates/template.ts";
import type { EgressDecision } from "../executor/protocol.ts";
import { within } from "../within.ts";
import { deadlineOf, type LifetimeBounds } from "./deadline.ts";
import { isInstalling, mergeDependencies } from "./dependencies.ts";
import type { DependencyInstaller } from "./dependency-installer.ts";
import { checkEnvironment, formatMebibytes, parseCpu, parseSize } from "./limits.ts";
import {
  isLive,
  leaseFrom,
  LIVE_STATUSES,
  type Listed,
  type Page,
  type RequestedDependency,
  type Session,
  type SessionFilter,
  type SessionIdentity,
  type SessionStore,
} from "./session.ts";

/** What a caller may ask for (contract, Sessions); sizes as "512Mi", times in seconds. */
export type SessionInput = {
  id?: string | undefined;
  template_id: string;
  timeout?: number | undefined;
  cpu?: string | number | undefined;
  memory?: string | undefined;
  disk?: string | undefined;
  env_vars?: Record<string, string> | undefined;
  dependencies?: RequestedDependency[] | undefined;
  install_timeout?: number | undefined;
  fail_on_dependency_error?: boolean | undefined;
  python_package_index_url?: string | undefined;
  network?: { allow: string[] } | undefined;
};

export type InstallInput = {
  dependencies: RequestedDependency[];
  python_package_index_url?: string | undefined;
  install_timeout?: number | undefined;
};

export type SessionUpdate = { timeout?: number | undefined; env_vars?: Record<string, string> | undefined };

export type SessionRules = {
  defaultTimeoutS: number;
  maxTimeoutS: number;
  maxCpu: number;
  maxMemoryBytes: number;
  maxDiskBytes: number;
  maxProcesses: number;
  /** Live sessions of one tenant; null is no limit. */
  maxSessionsPerTenant: number | null;
  bounds: LifetimeBounds;
  packageIndexUrl: string | null;
  /** Throws `bad_request` for rules that can't be read. */
  checkNetwork(rules: readonly string[]): void;
  /** How long a new row is leased to the process that made it. */
  leaseMs: number;
};

export type SessionsDeps = {
  store: SessionStore;
  executions: ExecutionStore;
  templates: TemplateStore;
  provisioner: Provisioner;
  wakeups: Wakeups;
  installer: DependencyInstaller;
  changes: Changes<Session>;
  clock: Clock;
  rules: SessionRules;
  /** Name of this process in leases. */
  owner: string;
  /** Removes what is kept of the session's files beside its sandbox. Idempotent. */
  forgetFiles(session: Session): Promise<void>;
  /** What was decided about a session's connections, newest first. */
  decisions(id: string): Promise<EgressDecision[]>;
  /** Called for every session that was recorded. */
  created(session: Session): void;
};

/** How long an installation waits for its session to run. */
const MAX_SETTLE_MS = 30_000;
/** How long a creation waits for a warm sandbox, which is claimed in 1 ms on one machine and some 20 ms in a cluster. */
const WARM_MS = 200;
/** How often a waiter looks at the row itself, for changes that another replica made. */
const RECHECK_MS = 1000;
/** Uses of a session that follow each other within this time count once. */
const USE_MS = 1000;
/** Time limit of an installation that names none, in seconds (contract, Sessions). */
const DEFAULT_INSTALL_TIMEOUT_S = 300;

/** The operations on sessions. Every method throws AppError; a session of another tenant is `session_not_found`. */
export class Sessions {
  readonly #d: SessionsDeps;
  /** What making their sandboxes took, of sessions that a caller of `create` waits for. */
  readonly #timings = new Map<string, Record<string, number>>();

  constructor(deps: SessionsDeps) {
    this.#d = deps;
  }

  /**
   * Records the session and starts making its sandbox; answers while that goes on, with `wait` as `settled` does. `timing`
   * is the milliseconds of each phase of the making, as far as it has come.
   */
  async create(
    tenant: string,
    input: SessionInput,
    wait?: { waitMs: number; signal: AbortSignal },
  ): Promise<{ session: Session; timing: Record<string, number> }> {
    const { rules, store, clock } = this.#d;
    const template = await this.#d.templates.get(input.template_id);
    if (template === null)
      throw new AppError(
        "template_unknown",
        `there is no template ${JSON.stringify(input.template_id)}; GET /api/v1/templates lists them`,
      );
    if (rules.maxSessionsPerTenant !== null && (await store.countLive(tenant)) >= rules.maxSessionsPerTenant)
      throw new AppError("session_limit", `at most ${rules.maxSessionsPerTenant} live sessions`, { retryAfterS: 5 });
    await this.#d.provisioner.checkImage(template.image_url);
    const now = clock.now();
    const session = this.#newSession(tenant, input, template, now);
    await store.insert(session, leaseFrom(now, this.#d.owner, rules.leaseMs));
    this.#d.created(session);
    const timing = {};
    this.#timings.set(session.id, timing);
    try {
      const made = this.#d.wakeups.session(session.id);
      if (wait !== undefined)
        return { session: await this.settled(tenant, session.id, wait.waitMs, wait.signal), timing };
      if (template.warm_pool_size === 0) return { session, timing };
      await within(WARM_MS, made);
      return { session: await this.get(tenant, session.id), timing };
    } finally {
      this.#timings.delete(session.id);
    }
  }

  /** The scheduler tells what making a session's sandbox took, in milliseconds by phase. */
  sandboxMade(id: string, timing: Record<string, number>): void {
    Object.assign(this.#timings.get(id) ?? {}, timing);
  }

  #newSession(tenant: string, input: SessionInput, template: Template, now: Date): Session {
    const { rules } = this.#d;
    const cpu = parseCpu(input.cpu ?? template.default_cpu_cores, rules.maxCpu);
    const memory = input.memory ?? formatMebibytes(template.default_memory_mb);
    const disk = input.disk ?? formatMebibytes(template.default_disk_mb);
    parseSize("memory", memory, rules.maxMemoryBytes);
    parseSize("disk", disk, rules.maxDiskBytes);
    const env = { ...template.default_env_vars, ...input.env_vars };
    checkEnvironment(env);
    const timeout = input.timeout ?? template.default_timeout ?? rules.defaultTimeoutS;
    this.#checkTimeout(timeout);
    const dependencies = mergeDependencies([], input.dependencies ?? []);
    const network = input.network?.allow ?? template.network;
    rules.checkNetwork(network);
    const at = now.toISOString();
    return {
      id: input.id ?? newSessionId(now),
      tenant,
      template_id: template.id,
      status: "creating",
      cpu: String(cpu),
      memory,
      disk,
      max_processes: rules.maxProcesses,
      workspace_path: "/workspace",
      language_runtime: template.runtime_type,
      runtime_type: template.runtime_type,
      runtime_node: null,
      container_id: null,
      pod_name: null,
      env_vars: env,
      timeout,
      expires_at: deadlineOf({ created_at: at, timeout }, now, rules.bounds),
      python_package_index_url: input.python_package_index_url ?? rules.packageIndexUrl,
      requested_dependencies: dependencies,
      installed_dependencies: [],
      dependency_install_status: dependencies.length > 0 ? "pending" : "completed",
      dependency_install_error: null,
      dependency_install_started_at: null,
      dependency_install_completed_at: null,
      fail_on_dependency_error: input.fail_on_dependency_error ?? true,
      install_timeout: input.install_timeout ?? DEFAULT_INSTALL_TIMEOUT_S,
      error_message: null,
      created_at: at,
      updated_at: at,
      completed_at: null,
      last_activity_at: at,
      image_url: template.image_url,
      network,
      preload_modules: template.preload_modules,
    };
  }

  #checkTimeout(timeout: number): void {
    if (timeout < 1 || timeout > this.#d.rules.maxTimeoutS)
      throw new AppError("bad_request", `timeout must be 1 to ${this.#d.rules.maxTimeoutS} seconds`);
  }

  async get(tenant: string, id: string): Promise<Session> {
    const session = await this.#d.store.get(id);
    if (session === null || session.tenant !== tenant)
      throw new AppError("session_not_found", `there is no session ${id}`);
    return session;
  }

  list(tenant: string, filter: SessionFilter, page: Page): Promise<Listed<Session>> {
    return this.#d.store.list(tenant, filter, page);
  }

  /** Changes timeout or variables of a live session and renews its deadline. Variables hold from the next execution on. */
  async update(tenant: string, id: string, change: SessionUpdate): Promise<Session> {
    const session = await this.get(tenant, id);
    if (change.timeout !== undefined) this.#checkTimeout(change.timeout);
    if (change.env_vars !== undefined) checkEnvironment(change.env_vars);
    const now = this.#d.clock.now();
    const timeout = change.timeout ?? session.timeout;
    const fields = {
      timeout,
      env_vars: change.env_vars ?? session.env_vars,
      expires_at: deadlineOf({ created_at: session.created_at, timeout }, now, this.#d.rules.bounds),
      last_activity_at: now.toISOString(),
      updated_at: now.toISOString(),
    };
    if (!(await this.#d.store.update(id, fields, LIVE_STATUSES, session.created_at)))
      throw new AppError("session_ended", `session ${id} has ended`);
    return { ...session, ...fields };
  }

  /** Ends the sandbox and its executions; the record stays. Idempotent. */
  async terminate(tenant: string, id: string): Promise<Session> {
    await this.#end(await this.get(tenant, id), { filesGo: false });
    return this.get(tenant, id);
  }

  async #end({ id, created_at: createdAt }: SessionIdentity, options: { filesGo: boolean }): Promise<void> {
    const at = this.#d.clock.now().toISOString();
    const fields = { status: "terminated" as const, completed_at: at, updated_at: at };
    if (await this.#d.store.update(id, fields, LIVE_STATUSES, createdAt)) {
      const ended = await this.#d.store.get(id);
      if (ended !== null) this.#d.changes.notify(id, ended);
    }
    await this.#d.wakeups.session(id, options);
  }

  /** Ends the session and forgets it: sandbox, files, executions and record. */
  async delete(tenant: string, id: string): Promise<void> {
    const session = await this.get(tenant, id);
    await this.#end(session, { filesGo: true });
    await this.#forget(session);
  }

  /** Removes all that is kept of a session that has ended. The record goes last, so a part that failed can be repeated. */
  async forget(id: string): Promise<void> {
    const session = await this.#d.store.get(id);
    if (session !== null) await this.#forget(session);
  }

  /** Whoever deletes it at the same time may be done, and the id another session's. */
  async #forget(session: Session): Promise<void> {
    const { id, created_at: createdAt } = session;
    if (!(await this.#isThere(session))) return;
    await this.#d.provisioner.release(id, { deleteWorkspace: true });
    if (!(await this.#isThere(session))) return;
    await this.#d.forgetFiles(session);
    await this.#d.executions.deleteBySession(id);
    await this.#d.store.delete(id, createdAt);
  }

  async #isThere({ id, created_at: createdAt }: SessionIdentity): Promise<boolean> {
    return (await this.#d.store.get(id))?.created_at === createdAt;
  }

  /** The session once it is no longer `creating`, or as it is after `waitMs`. */
  async settled(tenant: string, id: string, waitMs: number, signal?: AbortSignal): Promise<Session> {
    const isSettled = ({ status }: Session): boolean => status !== "creating";
    return this.#d.changes.until(id, () => this.get(tenant, id), isSettled, { waitMs, recheckMs: RECHECK_MS, signal });
  }

  /**
   * Notes a use of a live session, which moves its deadline. Uses within a second of each other count once. Where it can't be
   * stored, as on a full disk, it is not noted: the use itself may need no store.
   */
  async touch(session: Session): Promise<void> {
    const now = this.#d.clock.now();
    if (Math.abs(now.getTime() - Date.parse(session.last_activity_at)) < USE_MS) return;
    const expiresAt = deadlineOf(session, now, this.#d.rules.bounds);
    const fields = { last_activity_at: now.toISOString(), expires_at: expiresAt };
    try {
      await this.#d.store.update(session.id, fields, LIVE_STATUSES, session.created_at);
    } catch (error) {
      if (!(error instanceof AppError && error.code === "store_unavailable")) throw error;
    }
  }

  /**
   * Installs packages beside those of before; by name, the last wins. Throws `install_in_progress`, and `dependency_failed`
   * with the installer's words: the packages of before stay then.
   */
  async install(tenant: string, id: string, input: InstallInput): Promise<Session> {
    const session = await this.settled(tenant, id, MAX_SETTLE_MS);
    if (!isLive(session)) throw new AppError("session_ended", `session ${id} has ended`);
    if (session.status === "creating" || isInstalling(session, this.#d.clock.now().getTime()))
      throw new AppError("install_in_progress", "an installation of this session is running");
    const before = session.installed_dependencies.length > 0 ? session.requested_dependencies : [];
    const installed = await this.#d.installer.install(session, {
      requested_dependencies: mergeDependencies(before, input.dependencies),
      python_package_index_url: input.python_package_index_url ?? session.python_package_index_url,
      install_timeout: input.install_timeout ?? session.install_timeout,
    });
    await this.touch(installed);
    return installed;
  }

  /** What the session's proxy decided, newest first; kept until the session is deleted. */
  async audit(tenant: string, id: string): Promise<EgressDecision[]> {
    await this.get(tenant, id);
    return this.#d.decisions(id);
  }
}
