import { setImmediate } from "node:timers/promises";
import { AppError } from "../errors.ts";
import type {
  AgedExecution,
  Execution,
  ExecutionFields,
  ExecutionStatus,
  ExecutionStore,
} from "../executions/execution.ts";
import type { AgedPage, Lease, Listed, Page } from "../sessions/session.ts";
import { agedRows } from "./aged.ts";
import { Columns } from "./columns.ts";
import { freeAt, LEASE_IS_FREE } from "./free-lease.ts";
import {
  marks,
  paging,
  ReferenceViolation,
  UniqueViolation,
  type Row,
  type Sql,
  type SqlValue,
  type Statement,
} from "./sql.ts";

type Input = Pick<Execution, "code" | "event" | "stdin">;
type Output = Pick<Execution, "stdout" | "stderr" | "return_value">;

const MAIN = new Columns<Omit<Execution, keyof Input | keyof Output>>({
  id: "plain",
  session_id: "plain",
  tenant: "plain",
  status: "plain",
  language: "plain",
  timeout: "plain",
  exit_code: "plain",
  reason: "plain",
  error_message: "plain",
  execution_time: "plain",
  stdout_bytes: "plain",
  stderr_bytes: "plain",
  stdout_truncated: "boolean",
  stderr_truncated: "boolean",
  artifacts: "json",
  metrics: "json",
  env_vars: "json",
  retry_count: "plain",
  created_at: "plain",
  started_at: "plain",
  completed_at: "plain",
  idempotency_key: "plain",
  last_seq: "plain",
  journaled: "boolean",
  timing: "json",
});
const INPUT = new Columns<Input>({ code: "plain", event: "plain", stdin: "plain" });
const OUTPUT = new Columns<Output>({ stdout: "plain", stderr: "plain", return_value: "plain" });

/** Rows that one statement names. */
const AT_ONCE = 64;
/** Output that one statement deletes, or one execution's. */
const DELETED_BYTES = 4 * 1024 ** 2;
const BYTES = "stdout_bytes + stderr_bytes";
/** Room for the id beside a text, in bytes. */
const ID_BYTES = 1024;
/** Spelled as in the schema, whose partial index serves exactly this condition. */
const LIVE = "status IN ('pending', 'running')";
const SELECT = `SELECT ${MAIN.list("e")}, ${INPUT.list("i")}, ${OUTPUT.list("o")} FROM executions e
  JOIN execution_inputs i ON i.seq = e.seq LEFT JOIN execution_outputs o ON o.seq = e.seq`;
const INSERT_MAIN = `INSERT INTO executions (${MAIN.list()}, lease_owner, lease_expires_at) VALUES (${marks(MAIN.names)}, ?, ?)`;

/** Executions in three tables, so that lists and counts never touch what was submitted and what came out, which may be large. */
export class SqlExecutionStore implements ExecutionStore {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  async insert(given: Execution, lease: Lease): Promise<void> {
    const execution = this.#fitted(given);
    const main = { sql: INSERT_MAIN, values: [...MAIN.values(execution), lease.owner, lease.expiresAt] };
    const inputs = this.#writes("execution_inputs", INPUT, execution.id, execution);
    const outputs = isEmpty(execution) ? [] : this.#writes("execution_outputs", OUTPUT, execution.id, execution);
    try {
      await this.#sql.batch([main, ...inputs, ...outputs]);
    } catch (error) {
      if (error instanceof ReferenceViolation)
        throw new AppError("session_not_found", `there is no session ${execution.session_id}`);
      if (error instanceof UniqueViolation && error.constraint.includes("idempotency"))
        throw new AppError("idempotency_conflict", "the session has an execution with this Idempotency-Key");
      throw error;
    }
  }

  /** Cuts output that the database can't take in one piece, so that every end can be stored. */
  #fitted<T extends ExecutionFields>(fields: T): T {
    const fitted = { ...fields };
    for (const name of ["stdout", "stderr"] as const) {
      const text = fields[name];
      if (text === undefined || text.length * 3 <= this.#sql.maxTextBytes) continue;
      const bytes = Buffer.from(text);
      if (bytes.length + ID_BYTES <= this.#sql.maxTextBytes) continue;
      // In the middle of a stream the decoder keeps back the character that was cut.
      const kept = bytes.subarray(0, this.#sql.maxTextBytes - ID_BYTES);
      fitted[name] = new TextDecoder("utf-8", { ignoreBOM: true }).decode(kept, { stream: true });
      fitted[`${name}_truncated`] = true;
    }
    return fitted;
  }

  /** Writes those of a table's columns that are given, in as many statements as it takes for the database to take each. */
  #writes<T extends Partial<Execution>>(
    table: string,
    columns: Columns<T>,
    id: string,
    fields: Partial<T>,
  ): Statement[] {
    const statements: Statement[] = [];
    let names: (keyof T & string)[] = [];
    let values: SqlValue[] = [];
    let bytes = ID_BYTES;
    const end = (): void => {
      const overwrite = this.#sql.dialect.onConflictOverwrite("seq", names);
      const sql = `INSERT INTO ${table} (seq, ${names.join(", ")})
        SELECT seq, ${marks(names)} FROM executions WHERE id = ?${overwrite}`;
      if (names.length > 0) statements.push({ sql, values: [...values, id] });
      [names, values, bytes] = [[], [], ID_BYTES];
    };
    for (const name of columns.names) {
      if (fields[name] === undefined) continue;
      const [value = null] = columns.assignments({ [name]: fields[name] } as Partial<T>).values;
      const size = typeof value === "string" ? Buffer.byteLength(value) : 0;
      if (bytes + size > this.#sql.maxTextBytes) end();
      names.push(name);
      values.push(value);
      bytes += size;
    }
    end();
    return statements;
  }

  async get(id: string): Promise<Execution | null> {
    const [row] = await this.#sql.query(`${SELECT} WHERE e.id = ?`, [id]);
    return row === undefined ? null : read(row);
  }

  async findByIdempotencyKey(sessionId: string, key: string): Promise<Execution | null> {
    const [row] = await this.#sql.query(`${SELECT} WHERE e.session_id = ? AND e.idempotency_key = ?`, [sessionId, key]);
    return row === undefined ? null : read(row);
  }

  async ids(sessionId: string, page: Page): Promise<Listed<string>> {
    const end = paging(this.#sql.dialect, page);
    const [rows, [count]] = await Promise.all([
      this.#sql.query(`SELECT id FROM executions WHERE session_id = ? ORDER BY seq DESC${end.sql}`, [
        sessionId,
        ...end.values,
      ]),
      this.#sql.query("SELECT COUNT(*) AS total FROM executions WHERE session_id = ?", [sessionId]),
    ]);
    return { items: rows.map((row) => String(row["id"])), total: Number(count?.["total"]) };
  }

  async update(id: string, fields: ExecutionFields, from: readonly ExecutionStatus[]): Promise<boolean> {
    const fitted = this.#fitted(fields);
    const set = MAIN.assignments(fitted);
    const sql = `UPDATE executions SET ${set.sql || "status = status"} WHERE id = ? AND status IN (${marks(from)})`;
    const main = { sql, values: [...set.values, id, ...from] };
    const outputs = this.#writes("execution_outputs", OUTPUT, id, fitted);
    if (outputs.length === 0) return (await this.#sql.run(main.sql, main.values)) > 0;
    return (await this.#sql.batch([main, ...outputs])) > 0;
  }

  async countLive(by: { sessionId: string } | { tenant: string }): Promise<number> {
    const [column, value] = "tenant" in by ? ["tenant", by.tenant] : ["session_id", by.sessionId];
    const sql = `SELECT COUNT(*) AS total FROM executions WHERE ${column} = ? AND ${LIVE}`;
    const [row] = await this.#sql.query(sql, [value]);
    return Number(row?.["total"]);
  }

  async liveAmong(ids: readonly string[]): Promise<string[]> {
    const live: string[] = [];
    for (let i = 0; i < ids.length; i += AT_ONCE) {
      const some = filled(ids.slice(i, i + AT_ONCE));
      const rows = await this.#sql.query(`SELECT id FROM executions WHERE id IN (${marks(some)}) AND ${LIVE}`, some);
      live.push(...rows.map(idOf));
    }
    return live;
  }

  async deleteBySession(sessionId: string): Promise<void> {
    const end = paging(this.#sql.dialect, { limit: AT_ONCE, offset: 0 });
    const sql = `SELECT id, ${BYTES} AS bytes FROM executions WHERE session_id = ? ORDER BY seq${end.sql}`;
    for (;;) {
      const rows = await this.#sql.query(sql, [sessionId, ...end.values]);
      if (rows.length === 0) return;
      await this.delete(rows.map((row) => ({ id: idOf(row), bytes: Number(row["bytes"]) })));
    }
  }

  async delete(executions: readonly Pick<AgedExecution, "id" | "bytes">[]): Promise<void> {
    let ids: string[] = [];
    let bytes = 0;
    for (const [i, execution] of executions.entries()) {
      ids.push(execution.id);
      bytes += execution.bytes;
      if (ids.length < AT_ONCE && bytes < DELETED_BYTES && i < executions.length - 1) continue;
      const some = filled(ids);
      await this.#sql.run(`DELETE FROM executions WHERE id IN (${marks(some)})`, some);
      [ids, bytes] = [[], 0];
      // SQLite does its work before it gives back its promise.
      await setImmediate();
    }
  }

  async endedBefore(before: string, after: number, now: string, limit: number): Promise<AgedPage<AgedExecution>> {
    const columns = ["session_id", `${BYTES} AS bytes`];
    const { rows, next } = await agedRows(this.#sql, "executions", columns, { before, after, now, limit });
    const items = rows.map((row) => ({
      id: idOf(row),
      sessionId: row["session_id"] as string,
      bytes: Number(row["bytes"]),
    }));
    return { items, next };
  }

  async claim(id: string, lease: Lease, now: string): Promise<boolean> {
    const sql = `UPDATE executions SET lease_owner = ?, lease_expires_at = ?
      WHERE id = ? AND ${LIVE} AND (lease_owner = ? OR ${LEASE_IS_FREE})`;
    return (await this.#sql.run(sql, [lease.owner, lease.expiresAt, id, lease.owner, ...freeAt(now)])) > 0;
  }

  async renew(ids: readonly string[], lease: Lease): Promise<void> {
    for (let i = 0; i < ids.length; i += AT_ONCE) {
      const some = filled(ids.slice(i, i + AT_ONCE));
      const sql = `UPDATE executions SET lease_expires_at = ? WHERE id IN (${marks(some)}) AND lease_owner = ? AND ${LIVE}`;
      await this.#sql.run(sql, [lease.expiresAt, ...some, lease.owner]);
    }
  }

  async releaseAll(owner: string | null): Promise<void> {
    const whose = owner === null ? "" : " AND lease_owner = ?";
    const sql = `UPDATE executions SET lease_owner = NULL, lease_expires_at = NULL WHERE ${LIVE}${whose}`;
    await this.#sql.run(sql, owner === null ? [] : [owner]);
  }

  async liveByStatus(): Promise<Record<"pending" | "running", number>> {
    const rows = await this.#sql.query(
      `SELECT status, COUNT(*) AS total FROM executions WHERE ${LIVE} GROUP BY status`,
    );
    const totals = new Map(rows.map((row) => [row["status"], Number(row["total"])]));
    return { pending: totals.get("pending") ?? 0, running: totals.get("running") ?? 0 };
  }

  async unowned(now: string, limit: number): Promise<{ id: string; isExpired: boolean }[]> {
    const end = paging(this.#sql.dialect, { limit, offset: 0 });
    const sql = `SELECT id, lease_owner FROM executions WHERE ${LIVE} AND ${LEASE_IS_FREE} ORDER BY created_at, seq${end.sql}`;
    const rows = await this.#sql.query(sql, [...freeAt(now), ...end.values]);
    return rows.map((row) => ({ id: idOf(row), isExpired: row["lease_owner"] !== null }));
  }
}

/** Whether the large results are what a missing row means. */
function isEmpty({ stdout, stderr, return_value: value }: Output): boolean {
  return stdout === "" && stderr === "" && value === null;
}

/** Filled up with nothing, so that it is one text for any number of them. */
function filled(ids: readonly string[]): (string | null)[] {
  return Array.from({ length: AT_ONCE }, (_, i) => ids[i] ?? null);
}

function idOf(row: Row): string {
  return row["id"] as string;
}

function read(row: Row): Execution {
  const execution: Partial<Execution> = {};
  MAIN.read(row, execution);
  INPUT.read(row, execution);
  OUTPUT.read(row, execution);
  execution.stdout ??= "";
  execution.stderr ??= "";
  return execution as Execution;
}
