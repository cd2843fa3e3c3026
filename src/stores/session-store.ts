import { AppError } from "../errors.ts";
import { AHEAD_MS } from "../sessions/deadline.ts";
import {
  LIVE_STATUSES,
  type AgedPage,
  type Lease,
  type Listed,
  type Page,
  type Session,
  type SessionFilter,
  type SessionStatus,
  type SessionStore,
} from "../sessions/session.ts";
import { agedRows } from "./aged.ts";
import { Columns } from "./columns.ts";
import { freeAt, laterThan, LEASE_IS_FREE } from "./free-lease.ts";
import { marks, paging, UniqueViolation, type Sql, type SqlValue } from "./sql.ts";

const COLUMNS = new Columns<Session>({
  id: "plain",
  tenant: "plain",
  template_id: "plain",
  status: "plain",
  cpu: "plain",
  memory: "plain",
  disk: "plain",
  max_processes: "plain",
  workspace_path: "plain",
  language_runtime: "plain",
  runtime_type: "plain",
  runtime_node: "plain",
  container_id: "plain",
  pod_name: "plain",
  env_vars: "json",
  timeout: "plain",
  expires_at: "plain",
  python_package_index_url: "plain",
  requested_dependencies: "json",
  installed_dependencies: "json",
  dependency_install_status: "plain",
  dependency_install_error: "plain",
  dependency_install_started_at: "plain",
  dependency_install_completed_at: "plain",
  fail_on_dependency_error: "boolean",
  install_timeout: "plain",
  error_message: "plain",
  created_at: "plain",
  updated_at: "plain",
  completed_at: "plain",
  last_activity_at: "plain",
  image_url: "plain",
  network: "json",
  preload_modules: "json",
});

const RENEWED_AT_ONCE = 64;
/** Spelled as in the schema, whose partial index serves exactly this condition. */
const LIVE = "status IN ('creating', 'running')";
const SELECT = `SELECT ${COLUMNS.list()} FROM sessions`;
const INSERT = `INSERT INTO sessions (${COLUMNS.list()}, lease_owner, lease_expires_at)
  SELECT ${marks(COLUMNS.names)}, ?, ? FROM templates WHERE id = ?`;

export class SqlSessionStore implements SessionStore {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  async insert(session: Session, lease?: Lease): Promise<void> {
    const values = [...COLUMNS.values(session), lease?.owner ?? null, lease?.expiresAt ?? null, session.template_id];
    try {
      if ((await this.#sql.run(INSERT, values)) > 0) return;
    } catch (error) {
      if (error instanceof UniqueViolation)
        throw new AppError("session_exists", `session ${session.id} exists already`);
      throw error;
    }
    throw new AppError("template_unknown", `there is no template ${session.template_id}`);
  }

  async get(id: string): Promise<Session | null> {
    const [row] = await this.#sql.query(`${SELECT} WHERE id = ?`, [id]);
    return row === undefined ? null : COLUMNS.read(row);
  }

  async list(tenant: string, filter: SessionFilter, page: Page): Promise<Listed<Session>> {
    const conditions = ["tenant = ?"];
    const values: SqlValue[] = [tenant];
    for (const name of ["status", "template_id"] as const) {
      const value = filter[name];
      if (value === undefined) continue;
      conditions.push(`${name} = ?`);
      values.push(value);
    }
    const where = ` WHERE ${conditions.join(" AND ")}`;
    const limit = paging(this.#sql.dialect, page);
    const [items, total] = await Promise.all([
      this.#sql.query(`${SELECT}${where} ORDER BY seq DESC${limit.sql}`, [...values, ...limit.values]),
      this.#count(where, values),
    ]);
    return { items: items.map((row) => COLUMNS.read(row)), total };
  }

  async #count(where: string, values: readonly SqlValue[]): Promise<number> {
    const [row] = await this.#sql.query(`SELECT COUNT(*) AS total FROM sessions${where}`, values);
    return Number(row?.["total"]);
  }

  async update(
    id: string,
    fields: Partial<Omit<Session, "id" | "tenant">>,
    from?: readonly SessionStatus[],
    createdAt?: string,
  ): Promise<boolean> {
    const set = COLUMNS.assignments(fields);
    const status = from === undefined ? "" : ` AND status IN (${marks(from)})`;
    const same = createdAt === undefined ? "" : " AND created_at = ?";
    const sql = `UPDATE sessions SET ${set.sql || "status = status"} WHERE id = ?${status}${same}`;
    const when = createdAt === undefined ? [] : [createdAt];
    return (await this.#sql.run(sql, [...set.values, id, ...(from ?? []), ...when])) > 0;
  }

  async beginInstallation(known: Session, fields: Partial<Omit<Session, "id" | "tenant">>): Promise<boolean> {
    const set = COLUMNS.assignments(fields);
    const sql = `UPDATE sessions SET ${set.sql} WHERE id = ? AND status IN (${marks(LIVE_STATUSES)})
      AND dependency_install_status = ? AND COALESCE(dependency_install_started_at, '') = ?`;
    const { id, dependency_install_status: status, dependency_install_started_at: startedAt } = known;
    return (await this.#sql.run(sql, [...set.values, id, ...LIVE_STATUSES, status, startedAt ?? ""])) > 0;
  }

  async delete(id: string, createdAt?: string): Promise<boolean> {
    const sql = "DELETE FROM sessions WHERE id = ?";
    if (createdAt === undefined) return (await this.#sql.run(sql, [id])) > 0;
    return (await this.#sql.run(`${sql} AND created_at = ?`, [id, createdAt])) > 0;
  }

  countLive(tenant?: string): Promise<number> {
    if (tenant === undefined) return this.#count(` WHERE ${LIVE}`, []);
    return this.#count(` WHERE tenant = ? AND ${LIVE}`, [tenant]);
  }

  countLiveByTemplate(templateId: string): Promise<number> {
    return this.#count(` WHERE template_id = ? AND ${LIVE}`, [templateId]);
  }

  async claim(id: string, lease: Lease, now: string): Promise<boolean> {
    const sql = `UPDATE sessions SET lease_owner = ?, lease_expires_at = ?
      WHERE id = ? AND (lease_owner = ? OR ${LEASE_IS_FREE})`;
    return (await this.#sql.run(sql, [lease.owner, lease.expiresAt, id, lease.owner, ...freeAt(now)])) > 0;
  }

  async release(id: string, owner: string): Promise<void> {
    const sql = "UPDATE sessions SET lease_owner = NULL, lease_expires_at = NULL WHERE id = ? AND lease_owner = ?";
    await this.#sql.run(sql, [id, owner]);
  }

  async releaseAll(owner: string | null): Promise<void> {
    const whose = owner === null ? "" : " AND lease_owner = ?";
    const sql = `UPDATE sessions SET lease_owner = NULL, lease_expires_at = NULL WHERE ${LIVE}${whose}`;
    await this.#sql.run(sql, owner === null ? [] : [owner]);
  }

  async due(now: string, limit: number): Promise<string[]> {
    const end = paging(this.#sql.dialect, { limit, offset: 0 });
    const sql = `SELECT id, seq FROM sessions WHERE status = 'creating' AND ${LEASE_IS_FREE}
      UNION SELECT id, seq FROM sessions WHERE ${LIVE} AND (expires_at <= ? OR last_activity_at > ?) ORDER BY seq${end.sql}`;
    const rows = await this.#sql.query(sql, [...freeAt(now), now, laterThan(now, AHEAD_MS), ...end.values]);
    return rows.map((row) => row["id"] as string);
  }

  async renew(ids: readonly string[], lease: Lease): Promise<void> {
    for (let i = 0; i < ids.length; i += RENEWED_AT_ONCE) {
      // Filled up with nothing, so that it is one text for any number of them.
      const some = Array.from({ length: RENEWED_AT_ONCE }, (_, j) => ids[i + j] ?? null);
      const sql = `UPDATE sessions SET lease_expires_at = ? WHERE id IN (${marks(some)}) AND lease_owner = ? AND status = 'running'`;
      await this.#sql.run(sql, [lease.expiresAt, ...some, lease.owner]);
    }
  }

  async idsToConnect(owner: string, now: string, afterId: string, limit: number): Promise<string[]> {
    const end = paging(this.#sql.dialect, { limit, offset: 0 });
    const sql = `SELECT id FROM sessions WHERE status = 'running' AND network <> '[]' AND id > ?
      AND (lease_owner = ? OR ${LEASE_IS_FREE}) ORDER BY id${end.sql}`;
    const rows = await this.#sql.query(sql, [afterId, owner, ...freeAt(now), ...end.values]);
    return rows.map((row) => row["id"] as string);
  }

  async idsByStatus(statuses: readonly SessionStatus[], afterId: string, limit: number): Promise<string[]> {
    const end = paging(this.#sql.dialect, { limit, offset: 0 });
    const sql = `SELECT id FROM sessions WHERE status IN (${marks(statuses)}) AND id > ? ORDER BY id${end.sql}`;
    const rows = await this.#sql.query(sql, [...statuses, afterId, ...end.values]);
    return rows.map((row) => row["id"] as string);
  }

  async endedBefore(before: string, after: number, now: string, limit: number): Promise<AgedPage<string>> {
    const { rows, next } = await agedRows(this.#sql, "sessions", [], { before, after, now, limit });
    return { items: rows.map((row) => row["id"] as string), next };
  }
}
