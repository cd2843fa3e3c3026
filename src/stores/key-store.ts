import { AppError } from "../errors.ts";
import type { ApiKey, KeyStore } from "../keys/key.ts";
import { Columns } from "./columns.ts";
import { marks, UniqueViolation, type Sql, type SqlValue } from "./sql.ts";

const COLUMNS = new Columns<ApiKey>({
  name: "plain",
  tenant: "plain",
  hash: "plain",
  hint: "plain",
  created_at: "plain",
  last_used_at: "plain",
  revoked_at: "plain",
});

const SELECT = `SELECT ${COLUMNS.list()} FROM api_keys`;
const INSERT = `INSERT INTO api_keys (${COLUMNS.list()}) VALUES (${marks(COLUMNS.names)})`;

export class SqlKeyStore implements KeyStore {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  async insert(key: ApiKey): Promise<void> {
    await this.#sql.run("DELETE FROM api_keys WHERE name = ? AND revoked_at IS NOT NULL", [key.name]);
    try {
      await this.#sql.run(INSERT, COLUMNS.values(key));
    } catch (error) {
      if (error instanceof UniqueViolation) throw new AppError("key_exists", `key ${key.name} exists already`);
      throw error;
    }
  }

  async list(): Promise<ApiKey[]> {
    return (await this.#sql.query(`${SELECT} ORDER BY name`)).map((row) => COLUMNS.read(row));
  }

  get(name: string): Promise<ApiKey | null> {
    return this.#one("name = ?", [name]);
  }

  findByHash(hash: string): Promise<ApiKey | null> {
    return this.#one("hash = ? AND revoked_at IS NULL", [hash]);
  }

  async #one(where: string, values: readonly SqlValue[]): Promise<ApiKey | null> {
    const [row] = await this.#sql.query(`${SELECT} WHERE ${where}`, values);
    return row === undefined ? null : COLUMNS.read(row);
  }

  async any(): Promise<boolean> {
    return (await this.#sql.query("SELECT name FROM api_keys WHERE revoked_at IS NULL LIMIT 1")).length > 0;
  }

  async revoke(name: string, at: string): Promise<boolean> {
    const sql = "UPDATE api_keys SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL";
    return (await this.#sql.run(sql, [at, name])) > 0;
  }

  async used(name: string, at: string): Promise<void> {
    await this.#sql.run("UPDATE api_keys SET last_used_at = ? WHERE name = ?", [at, name]);
  }
}
