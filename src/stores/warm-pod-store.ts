import type { WarmPod, WarmPodStore } from "../provisioners/warm-pod.ts";
import { Columns } from "./columns.ts";
import { marks, paging, UniqueViolation, type Sql } from "./sql.ts";

const COLUMNS = new Columns<WarmPod>({
  name: "plain",
  pool: "plain",
  template_id: "plain",
  slot: "plain",
  session_id: "plain",
  created_at: "plain",
  ready_at: "plain",
});

const INSERT = `INSERT INTO warm_pods (${COLUMNS.list()}) VALUES (${marks(COLUMNS.names)})`;

export class SqlWarmPodStore implements WarmPodStore {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  plan(pod: Pick<WarmPod, "name" | "pool" | "template_id" | "created_at"> & { slot: number }): Promise<boolean> {
    const row = { ...pod, session_id: null, ready_at: null };
    return unlessTaken(this.#sql.run(INSERT, COLUMNS.values(row)));
  }

  async ready(name: string, at: string): Promise<boolean> {
    return (
      (await this.#sql.run("UPDATE warm_pods SET ready_at = ? WHERE name = ? AND session_id IS NULL", [at, name])) > 0
    );
  }

  async claimable(pool: string, limit: number): Promise<string[]> {
    const end = paging(this.#sql.dialect, { limit, offset: 0 });
    const sql = `SELECT name FROM warm_pods WHERE pool = ? AND slot IS NOT NULL AND ready_at IS NOT NULL
      ORDER BY ready_at, name${end.sql}`;
    return (await this.#sql.query(sql, [pool, ...end.values])).map((row) => row["name"] as string);
  }

  claim(name: string, sessionId: string): Promise<boolean> {
    const sql = `UPDATE warm_pods SET session_id = ?, slot = NULL
      WHERE name = ? AND session_id IS NULL AND ready_at IS NOT NULL`;
    return unlessTaken(this.#sql.run(sql, [sessionId, name]));
  }

  async ofSession(sessionId: string): Promise<string | null> {
    const [row] = await this.#sql.query("SELECT name FROM warm_pods WHERE session_id = ?", [sessionId]);
    return (row?.["name"] as string | undefined) ?? null;
  }

  async list(): Promise<WarmPod[]> {
    const rows = await this.#sql.query(`SELECT ${COLUMNS.list()} FROM warm_pods ORDER BY created_at, name`);
    return rows.map((row) => COLUMNS.read(row));
  }

  async withdraw(name: string): Promise<boolean> {
    return (await this.#sql.run("DELETE FROM warm_pods WHERE name = ? AND session_id IS NULL", [name])) > 0;
  }

  async forget(name: string, sessionId: string): Promise<void> {
    await this.#sql.run("DELETE FROM warm_pods WHERE name = ? AND session_id = ?", [name, sessionId]);
  }
}

/** Whether a row was met; false also where one that has the same place or session was there before. */
async function unlessTaken(change: Promise<number>): Promise<boolean> {
  try {
    return (await change) > 0;
  } catch (error) {
    if (error instanceof UniqueViolation) return false;
    throw error;
  }
}
