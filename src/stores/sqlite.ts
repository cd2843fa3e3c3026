import { Database, SQLiteError, type Statement as Prepared } from "bun:sqlite";
import { chmodSync, closeSync, existsSync, openSync } from "node:fs";
import { ConfigError } from "../config.ts";
import { AppError } from "../errors.ts";
import { pendingMigrations } from "./migrations/migration.ts";
import { SQLITE_MIGRATIONS } from "./migrations/sqlite.ts";
import { prepareUpkeep, tidy } from "./sqlite/tidy.ts";
import {
  ReferenceViolation,
  UniqueViolation,
  type Dialect,
  type Row,
  type Sql,
  type SqlValue,
  type Statement,
} from "./sql.ts";

const DIALECT: Dialect = {
  name: "sqlite",
  pagingAsLiterals: false,
  onConflictOverwrite: (key, columns) =>
    ` ON CONFLICT (${key}) DO UPDATE SET ${columns.map((name) => `${name} = excluded.${name}`).join(", ")}`,
};

/** SQLite's own limit for a value. */
const MAX_TEXT_BYTES = 1_000_000_000;
/** Prepared statements kept; the stores' texts are far fewer. */
const MAX_PREPARED = 512;
/** How long a statement waits for another process (`sandbox keys`) to end its transaction, in milliseconds. */
const BUSY_MS = 5000;

/**
 * SQLite in a file. Every call does its work before it returns its promise, so that nothing comes between the statements
 * of a batch. A commit survives the end of the process at once, and the end of the machine within a checkpoint.
 */
class SqliteDatabase implements Sql {
  readonly dialect = DIALECT;
  readonly maxTextBytes = MAX_TEXT_BYTES;
  readonly #db: Database;
  readonly #prepared = new Map<string, Prepared>();

  constructor(db: Database) {
    this.#db = db;
  }

  #prepare(sql: string): Prepared {
    let statement = this.#prepared.get(sql);
    if (statement !== undefined) return statement;
    statement = this.#db.prepare(sql);
    const oldest = this.#prepared.size >= MAX_PREPARED ? this.#prepared.entries().next().value : undefined;
    if (oldest !== undefined) {
      oldest[1].finalize();
      this.#prepared.delete(oldest[0]);
    }
    this.#prepared.set(sql, statement);
    return statement;
  }

  // oxlint-disable-next-line require-await
  async query(sql: string, values: readonly SqlValue[] = []): Promise<Row[]> {
    return translated(() => this.#prepare(sql).all(...values) as Row[]);
  }

  // oxlint-disable-next-line require-await
  async run(sql: string, values: readonly SqlValue[] = []): Promise<number> {
    return translated(() => this.#prepare(sql).run(...values).changes);
  }

  // oxlint-disable-next-line require-await
  async batch(statements: readonly Statement[]): Promise<number> {
    return translated(() => {
      this.#prepare("BEGIN IMMEDIATE").run();
      try {
        const met = this.#runAll(statements);
        this.#prepare("COMMIT").run();
        return met;
      } catch (error) {
        if (this.#db.inTransaction) this.#prepare("ROLLBACK").run();
        throw error;
      }
    });
  }

  #runAll(statements: readonly Statement[]): number {
    let first: number | undefined;
    for (const { sql, values } of statements) {
      const { changes } = this.#prepare(sql).run(...values);
      first ??= changes;
      if (first === 0) break;
    }
    return first ?? 0;
  }

  async tidy(signal: AbortSignal): Promise<void> {
    try {
      await tidy(this.#db, signal);
    } catch (error) {
      translated(() => {
        throw error;
      });
    }
  }

  // oxlint-disable-next-line require-await
  async close(): Promise<void> {
    for (const statement of this.#prepared.values()) statement.finalize();
    this.#prepared.clear();
    this.#db.close();
  }
}

const UNAVAILABLE = [
  "BUSY",
  "LOCKED",
  "IOERR",
  "FULL",
  "CANTOPEN",
  "READONLY",
  "CORRUPT",
  "NOTADB",
  "PROTOCOL",
  "NOMEM",
];

function translated<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof SQLiteError)) throw error;
    const code = error.code ?? "";
    if (code === "SQLITE_CONSTRAINT_UNIQUE" || code === "SQLITE_CONSTRAINT_PRIMARYKEY")
      throw new UniqueViolation(error.message, error);
    if (code === "SQLITE_CONSTRAINT_FOREIGNKEY") throw new ReferenceViolation(error);
    if (UNAVAILABLE.some((one) => code.startsWith(`SQLITE_${one}`)))
      throw new AppError("store_unavailable", "the database can't be used now", { cause: error, retryAfterS: 1 });
    throw error;
  }
}

/** Opens the database, readable by its owner alone, and brings its schema up to date. Throws ConfigError. */
export function openSqlite(path: string): Sql {
  let db: Database | undefined;
  try {
    if (path !== ":memory:") makePrivate(path);
    db = new Database(path, { create: true, strict: true });
    db.run(`PRAGMA busy_timeout = ${BUSY_MS}`);
    refuseNewer(db);
    prepareUpkeep(db);
    db.run("PRAGMA synchronous = NORMAL");
    db.run("PRAGMA foreign_keys = ON");
    db.run("PRAGMA temp_store = MEMORY");
    db.run("PRAGMA cache_size = -8000");
    migrate(db);
    return new SqliteDatabase(db);
  } catch (error) {
    db?.close();
    if (error instanceof ConfigError) throw error;
    const cause = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`DATABASE_URL=sqlite:${path} can't be opened: ${cause}`);
  }
}

/** Looks at a database without changing it; what it found, in words. Throws ConfigError that says why it can't be used. */
export function inspectSqlite(path: string): string {
  if (!existsSync(path)) return `${path} is made at the first start`;
  let db: Database | undefined;
  try {
    db = new Database(path, { readonly: true, strict: true });
    db.run(`PRAGMA busy_timeout = ${BUSY_MS}`);
    refuseNewer(db);
    const { quick_check: said } = db.query("PRAGMA quick_check(1)").get() as { quick_check: string };
    if (said !== "ok") throw new Error(said.replaceAll(/\s+/g, " "));
    return `${path}, SQLite, schema ${versionOf(db)}, whole`;
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const cause = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`DATABASE_URL=sqlite:${path} is damaged: ${cause}`);
  } finally {
    db?.close();
  }
}

function makePrivate(path: string): void {
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
}

/** Before anything is changed in it. */
function refuseNewer(db: Database): void {
  const table = db.query("SELECT name FROM sqlite_master WHERE name = 'schema_migrations'").get();
  if (table !== null) pendingMigrations(SQLITE_MIGRATIONS, versionOf(db));
}

/** Of the schema; 0 when there is none yet. */
function versionOf(db: Database): number {
  const row = db.query("SELECT MAX(version) AS version FROM schema_migrations").get() as { version: number | null };
  return row.version ?? 0;
}

function migrate(db: Database): void {
  db.transaction(() => {
    db.run(
      "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL)",
    );
    for (const { version, name, sql } of pendingMigrations(SQLITE_MIGRATIONS, versionOf(db))) {
      db.run(sql);
      db.run("INSERT INTO schema_migrations VALUES (?, ?, ?)", [version, name, new Date().toISOString()]);
    }
  }).immediate();
}
