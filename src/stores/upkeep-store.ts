import type { UpkeepStore, UpkeepTurn } from "../scheduler/upkeep.ts";
import { UniqueViolation, type Sql } from "./sql.ts";

export class SqlUpkeepStore implements UpkeepStore {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  async take({ name, owner, until }: UpkeepTurn, now: string, latest: string): Promise<boolean> {
    const sql = "UPDATE upkeep SET owner = ?, not_before = ? WHERE name = ? AND (not_before <= ? OR not_before > ?)";
    if ((await this.#sql.run(sql, [owner, until, name, now, latest])) > 0) return true;
    const [row] = await this.#sql.query("SELECT name FROM upkeep WHERE name = ?", [name]);
    if (row !== undefined) return false;
    try {
      await this.#sql.run("INSERT INTO upkeep (name, owner, not_before) VALUES (?, ?, ?)", [name, owner, until]);
      return true;
    } catch (error) {
      if (error instanceof UniqueViolation) return false;
      throw error;
    }
  }

  async hold({ name, owner, until }: UpkeepTurn): Promise<boolean> {
    const sql = "UPDATE upkeep SET not_before = ? WHERE name = ? AND owner = ?";
    return (await this.#sql.run(sql, [until, name, owner])) > 0;
  }
}
