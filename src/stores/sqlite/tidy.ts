import type { Database } from "bun:sqlite";
import { setTimeout as delay } from "node:timers/promises";

/** Pages that are given back at once: a step takes some milliseconds. */
const STEP_PAGES = 128;
const PAUSE_MS = 10;
/** Free pages that are left for what comes next: this many (of 4 KiB), … */
const KEPT_PAGES = 2048;
/** … or this part of the file. */
const KEPT_PART = 0.1;
/** Largest database that a start rebuilds so that it can shrink later on; it takes about a second. */
const MAX_REBUILT_BYTES = 128 * 1024 ** 2;
/** Rows that the planner's statistics look at in an index. */
const ANALYSED_ROWS = 400;

/** For a connection that has just been opened: has the file able to shrink, and the log bounded. */
export function prepareUpkeep(db: Database): void {
  db.run("PRAGMA auto_vacuum = INCREMENTAL");
  db.run("PRAGMA journal_mode = WAL");
  db.run("PRAGMA wal_autocheckpoint = 1000");
  db.run("PRAGMA journal_size_limit = 67108864");
  db.run(`PRAGMA analysis_limit = ${ANALYSED_ROWS}`);
  const isFixed = numberOf(db, "auto_vacuum") === 0;
  if (isFixed && numberOf(db, "page_count") * numberOf(db, "page_size") <= MAX_REBUILT_BYTES) db.run("VACUUM");
}

/** Gives free pages back to the file system in small steps, empties the log and has the planner's statistics renewed. */
export async function tidy(db: Database, signal: AbortSignal): Promise<void> {
  const total = numberOf(db, "page_count");
  let free = numberOf(db, "freelist_count");
  while (free > Math.max(KEPT_PAGES, total * KEPT_PART) && !signal.aborted) {
    db.query(`PRAGMA incremental_vacuum(${STEP_PAGES})`).all();
    await delay(PAUSE_MS);
    const left = numberOf(db, "freelist_count");
    if (left >= free) break;
    free = left;
  }
  if (signal.aborted) return;
  db.run("PRAGMA optimize");
  emptyLog(db);
}

/** Unless another process reads: it is not waited for. */
function emptyLog(db: Database): void {
  const waitMs = numberOf(db, "busy_timeout");
  db.run("PRAGMA busy_timeout = 0");
  try {
    db.query("PRAGMA wal_checkpoint(TRUNCATE)").all();
  } finally {
    db.run(`PRAGMA busy_timeout = ${waitMs}`);
  }
}

function numberOf(db: Database, pragma: string): number {
  return Number(Object.values(db.query(`PRAGMA ${pragma}`).get() as object)[0]);
}
