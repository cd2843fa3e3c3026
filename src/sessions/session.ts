export type SessionStatus = "creating" | "running" | "failed" | "terminated";
export const SESSION_STATUSES: readonly SessionStatus[] = ["creating", "running", "failed", "terminated"];

export const LIVE_STATUSES = ["creating", "running"] as const satisfies readonly SessionStatus[];

/** Whether it has, or is to have, a sandbox. */
export function isLive({ status }: Pick<Session, "status">): boolean {
  return status === "creating" || status === "running";
}

export type DependencyStatus = "pending" | "installing" | "completed" | "failed";

export type RequestedDependency = { name: string; version?: string };

export type InstalledDependency = {
  name: string;
  version: string;
  install_location: string;
  install_time: string;
  is_from_template: boolean;
};

/** An isolated sandbox with a workspace, for one tenant. Field names are the wire's (contract, Sessions). */
export type Session = {
  id: string;
  tenant: string;
  template_id: string;
  status: SessionStatus;
  cpu: string;
  memory: string;
  disk: string;
  max_processes: number;
  workspace_path: string;
  language_runtime: string;
  runtime_type: string;
  runtime_node: string | null;
  container_id: string | null;
  pod_name: string | null;
  env_vars: Record<string, string>;
  /** Seconds without use after which the session is terminated. */
  timeout: number;
  expires_at: string;
  python_package_index_url: string | null;
  requested_dependencies: RequestedDependency[];
  installed_dependencies: InstalledDependency[];
  dependency_install_status: DependencyStatus;
  dependency_install_error: string | null;
  dependency_install_started_at: string | null;
  dependency_install_completed_at: string | null;
  fail_on_dependency_error: boolean;
  install_timeout: number;
  error_message: string | null;
  created_at: string;
  updated_at: string;
  completed_at: string | null;
  last_activity_at: string;
  /** The image and limits as resolved at creation, so that a later change of the template changes nothing here. */
  image_url: string;
  /** What it may connect to, as rules; empty: nothing. */
  network: string[];
  /** Python modules that its sandbox imports while idle. */
  preload_modules: string[];
};

export type Page = { limit: number; offset: number };
export type Listed<T> = { items: T[]; total: number };
export type SessionFilter = { status?: SessionStatus | undefined; template_id?: string | undefined };

/** What tells a session from one that had its id before, or has it after it was deleted. */
export type SessionIdentity = Pick<Session, "id" | "created_at">;

/** A lease: the one process that may act on a row until `expiresAt` (ISO 8601). Taken by a conditional update. */
export type Lease = { owner: string; expiresAt: string };

/** A lease of `ms` milliseconds from `now`. */
export function leaseFrom(now: Date, owner: string, ms: number): Lease {
  return { owner, expiresAt: new Date(now.getTime() + ms).toISOString() };
}

/** The records of sessions. Instants (`now`, `before`) are ISO 8601. */
export interface SessionStore {
  /**
   * With `lease`, the new row is leased already, which saves the claim. Throws `session_exists` when the id is taken,
   * `template_unknown` when the template is gone.
   */
  insert(session: Session, lease?: Lease): Promise<void>;
  get(id: string): Promise<Session | null>;
  /** Newest first. */
  list(tenant: string, filter: SessionFilter, page: Page): Promise<Listed<Session>>;
  /**
   * Writes the given fields, and only if the row's status is one of `from` (any when absent), and it is the session that was
   * created at `createdAt` (when given): its id may be another's meanwhile. False when it was not.
   */
  update(
    id: string,
    fields: Partial<Omit<Session, "id" | "tenant">>,
    from?: readonly SessionStatus[],
    createdAt?: string,
  ): Promise<boolean>;
  /** Writes how an installation began, if the session is live and no other began since it was read as `known`. False when not. */
  beginInstallation(known: Session, fields: Partial<Omit<Session, "id" | "tenant">>): Promise<boolean>;
  /** Only the session that was created at `createdAt`, when given. */
  delete(id: string, createdAt?: string): Promise<boolean>;
  countLive(tenant?: string): Promise<number>;
  countLiveByTemplate(templateId: string): Promise<number>;
  /** Takes or renews the lease of a session whose lease is free, expired or already the owner's. */
  claim(id: string, lease: Lease, now: string): Promise<boolean>;
  release(id: string, owner: string): Promise<void>;
  /** Frees the leases of an owner; with null those of all, for a process that knows that no other lives. */
  releaseAll(owner: string | null): Promise<void>;
  /**
   * Ids of at most `limit` sessions that need the scheduler: those that are `creating` without a live lease, and live ones
   * that are past `expires_at` or whose last use lies in the future.
   */
  due(now: string, limit: number): Promise<string[]>;
  /** Lets the owner's leases of these sessions end later, while they run. */
  renew(ids: readonly string[], lease: Lease): Promise<void>;
  /** Ids of running sessions that may connect to something and are leased to the owner or to nobody, in pages by id. */
  idsToConnect(owner: string, now: string, afterId: string, limit: number): Promise<string[]>;
  /** Ids of all sessions in the given statuses, oldest first, in pages by id. */
  idsByStatus(statuses: readonly SessionStatus[], afterId: string, limit: number): Promise<string[]>;
  /** Of the `limit` oldest sessions after `after`, those that ended before `before`. */
  endedBefore(before: string, after: number, now: string, limit: number): Promise<AgedPage<string>>;
}

/** A part of a walk over all records, oldest first. `next`: where the walk goes on, null at its end. */
export type AgedPage<T> = { items: T[]; next: number | null };
