import type { EgressDecision } from "../executor/protocol.ts";
import { AUDIT_KEPT, type AuditStore } from "../sessions/audit.ts";
import { paging, type Sql } from "./sql.ts";

const INSERT = `INSERT INTO egress_decisions (session_id, decision)
  SELECT ?, ? FROM sessions WHERE id = ?`;
/** One addition in so many, by chance, looks for old ones of its session: who adds most is looked at most. */
const TRIM_EVERY = 50;

export class SqlAuditStore implements AuditStore {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  async add(sessionId: string, decision: EgressDecision): Promise<void> {
    await this.#sql.run(INSERT, [sessionId, JSON.stringify(decision), sessionId]);
    if (Math.random() * TRIM_EVERY < 1) await this.#trim(sessionId);
  }

  async #trim(sessionId: string): Promise<void> {
    const page = paging(this.#sql.dialect, { limit: 1, offset: AUDIT_KEPT });
    const select = `SELECT seq FROM egress_decisions WHERE session_id = ? ORDER BY seq DESC${page.sql}`;
    const [first] = await this.#sql.query(select, [sessionId, ...page.values]);
    if (first === undefined) return;
    const remove = "DELETE FROM egress_decisions WHERE session_id = ? AND seq <= ?";
    await this.#sql.run(remove, [sessionId, first["seq"] ?? null]);
  }

  async list(sessionId: string): Promise<EgressDecision[]> {
    const page = paging(this.#sql.dialect, { limit: AUDIT_KEPT, offset: 0 });
    const select = `SELECT decision FROM egress_decisions WHERE session_id = ? ORDER BY seq DESC${page.sql}`;
    const rows = await this.#sql.query(select, [sessionId, ...page.values]);
    return rows.map((row) => JSON.parse(row["decision"] as string) as EgressDecision);
  }
}
