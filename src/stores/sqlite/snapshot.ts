import { Database } from "bun:sqlite";
import { ConfigError } from "../../config.ts";

/** How long a busy database is waited for, in milliseconds. */
const BUSY_MS = 10_000;

/**
 * Copies a database, also one that another process writes to meanwhile: the copy is as it was at one moment. `into` must not
 * be there yet. Throws ConfigError when there is no database or no room.
 */
export function snapshotSqlite(path: string, into: string): void {
  let db: Database | undefined;
  try {
    db = new Database(path, { readwrite: true, create: false });
    db.run(`PRAGMA busy_timeout = ${BUSY_MS}`);
    db.run("VACUUM INTO ?", [into]);
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`the database ${path} can't be copied to ${into}: ${cause}`);
  } finally {
    db?.close();
  }
}
