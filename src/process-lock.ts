import { Database, SQLiteError } from "bun:sqlite";

/** The hold of one process on a file. The kernel lets go of it when the process ends in any way. */
export type ProcessLock = { release(): void };

/**
 * Takes the lock of a file, which is made if it is missing; null when another process has it. The lock is SQLite's on an
 * empty database: record locks that no child inherits and no crash leaves behind.
 */
export function takeLock(path: string): ProcessLock | null {
  const db = new Database(path, { readwrite: true, create: true });
  try {
    db.run("PRAGMA locking_mode = EXCLUSIVE");
    db.run("BEGIN EXCLUSIVE");
  } catch (error) {
    db.close();
    if (error instanceof SQLiteError && (error.code ?? "").startsWith("SQLITE_BUSY")) return null;
    throw error;
  }
  return {
    release: () => {
      if (db.inTransaction) db.run("ROLLBACK");
      db.close();
    },
  };
}
