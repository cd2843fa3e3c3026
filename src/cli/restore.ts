import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { ConfigError, loadConfig, takeFlags, type Config } from "../config.ts";
import { lockDataDirectory, openDataDirectory } from "../data-directory.ts";
import { LIVE_STATUSES as LIVE_EXECUTIONS } from "../executions/execution.ts";
import { takeLock } from "../process-lock.ts";
import { lostFields } from "../scheduler/outcome.ts";
import { deadlineOf } from "../sessions/deadline.ts";
import { LIVE_STATUSES } from "../sessions/session.ts";
import { SqlExecutionStore } from "../stores/execution-store.ts";
import { SqlSessionStore } from "../stores/session-store.ts";
import type { Sql } from "../stores/sql.ts";
import { openSqlite } from "../stores/sqlite.ts";
import { DATABASE, DESCRIPTION, KEPT_DIRECTORIES, readArchive, type BackupDescription } from "./archive.ts";
import { databaseFile } from "./backup.ts";
import { oneFile } from "./one-file.ts";

const HELP = `sandbox restore: reads what sandbox backup has written into a new data directory

Usage: sandbox restore FILE

The service must not run there, and the data directory must have no data yet. Sessions that lived go on with their
workspace, and their time without use counts from now; what ran or waited then is recorded as crashed. Run it as the user
who runs sandbox serve.

  --data-dir DIR       the data directory of sandbox serve (or DATA_DIR)
  --database-url URL   its database, where that is another file (or DATABASE_URL)
`;

/** In the data directory, so that all of it can be put into place by renaming. */
const ASIDE = "restoring";
const BATCH = 100;
const LOST = {
  status: "crashed",
  reason: "executor_lost",
  error_message: "the service was restored from a backup that was made meanwhile",
} as const;

/** `sandbox restore`. Throws ConfigError and UsageError, and then leaves the data directory as it was. */
export async function restoreCommand(argv: string[]): Promise<number> {
  const { flags, rest } = takeFlags(argv);
  if (rest.includes("--help")) {
    process.stdout.write(HELP);
    return 0;
  }
  const file = oneFile("restore", rest);
  if (!existsSync(file)) throw new ConfigError(`${file} is not there`);
  const config = loadConfig(process.env, flags);
  const database = databaseFile(config);
  const isNew = !existsSync(config.dataDir);
  const directory = openDataDirectory(config.dataDir);
  const lock = lockDataDirectory(directory);
  const executorLock = takeLock(join(directory.executor, "lock"));
  let isRestored = false;
  try {
    if (executorLock === null)
      throw new ConfigError(`DATA_DIR=${directory.path} is in use by an executor: end it or choose another directory`);
    refuseData(directory.path, database);
    const description = await restore(config, resolve(file), database);
    isRestored = true;
    process.stderr.write(`restored what ${file} has of ${description.created_at} into ${directory.path}\n`);
    return 0;
  } finally {
    executorLock?.release();
    lock.release();
    if (isNew && !isRestored) rmSync(directory.path, { recursive: true, force: true });
  }
}

function refuseData(dataDir: string, database: string): void {
  const isEmpty = (name: string): boolean =>
    !existsSync(join(dataDir, name)) || readdirSync(join(dataDir, name)).length === 0;
  if (!existsSync(database) && KEPT_DIRECTORIES.every(isEmpty)) return;
  throw new ConfigError(`DATA_DIR=${dataDir} has data already: move it away, or choose a new directory`);
}

async function restore(config: Config, file: string, database: string): Promise<BackupDescription> {
  const aside = join(config.dataDir, ASIDE);
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside, { mode: 0o700 });
  try {
    await readArchive(file, aside);
    const description = describe(aside, file);
    const sql = openSqlite(join(aside, DATABASE));
    try {
      await settle(sql, config);
    } finally {
      await sql.close();
    }
    putInPlace(aside, config.dataDir, database);
    return description;
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
}

function describe(aside: string, file: string): BackupDescription {
  try {
    const description = JSON.parse(readFileSync(join(aside, DESCRIPTION), "utf8")) as BackupDescription;
    if (description.format === 1 && existsSync(join(aside, DATABASE))) return description;
  } catch {
    // What it is not is said below.
  }
  throw new ConfigError(`${file} is not a backup that this program can read`);
}

/**
 * Gives live sessions their full time again, and ends what waited or ran: nobody knows what became of it, and nothing is run
 * twice.
 */
async function settle(sql: Sql, config: Config): Promise<void> {
  const now = new Date();
  const sessions = new SqlSessionStore(sql);
  const bounds = { idleMs: config.idleMs, lifetimeMs: config.lifetimeMs };
  for (let after: string | undefined = ""; after !== undefined;) {
    const ids: string[] = await sessions.idsByStatus(LIVE_STATUSES, after, BATCH);
    for (const id of ids) {
      const session = await sessions.get(id);
      if (session === null) continue;
      const fields = { last_activity_at: now.toISOString(), expires_at: deadlineOf(session, now, bounds) };
      await sessions.update(id, fields, LIVE_STATUSES);
    }
    after = ids.at(-1);
  }
  const executions = new SqlExecutionStore(sql);
  await executions.releaseAll(null);
  for (;;) {
    const live = await executions.unowned(now.toISOString(), BATCH);
    if (live.length === 0) return;
    for (const { id } of live) {
      const execution = await executions.get(id);
      if (execution === null) continue;
      await executions.update(id, lostFields(execution, LOST, now), LIVE_EXECUTIONS);
    }
  }
}

/** The records last: without them a start finds an empty service. */
function putInPlace(aside: string, dataDir: string, database: string): void {
  for (const name of KEPT_DIRECTORIES) {
    if (!existsSync(join(aside, name))) continue;
    if (existsSync(join(dataDir, name))) rmdirSync(join(dataDir, name));
    renameSync(join(aside, name), join(dataDir, name));
  }
  mkdirSync(dirname(database), { recursive: true });
  const near = `${database}.restoring`;
  // Perhaps on another file system.
  copyFileSync(join(aside, DATABASE), near);
  renameSync(near, database);
}
