import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { ConfigError, loadConfig, takeFlags, type Config } from "../config.ts";
import { snapshotSqlite } from "../stores/sqlite/snapshot.ts";
import { VERSION } from "../version.ts";
import { DATABASE, DESCRIPTION, KEPT_DIRECTORIES, writeArchive, type BackupDescription } from "./archive.ts";
import { oneFile } from "./one-file.ts";
import { UsageError } from "./usage-error.ts";

const HELP = `sandbox backup: writes all that the service of this machine keeps into one file, also while it runs

Usage: sandbox backup FILE

The end of FILE's name chooses the compression: .tar, .tar.gz or .tgz, .tar.zst. In it are the records (sessions, executions with
their output, templates, keys), workspaces, objects, imported images and audit logs. Not in it are what can be made again
(Python packages) and journals: event streams then come from the records. sandbox restore FILE reads it back.

  --data-dir DIR       the data directory of sandbox serve (or DATA_DIR)
  --database-url URL   its database, where that is another file (or DATABASE_URL)
`;

const ENDINGS = /.\.(tar|tar\.gz|tgz|tar\.zst)$/;

/** `sandbox backup`. Throws ConfigError and UsageError. */
export async function backupCommand(argv: string[]): Promise<number> {
  const { flags, rest } = takeFlags(argv);
  if (rest.includes("--help")) {
    process.stdout.write(HELP);
    return 0;
  }
  const file = oneFile("backup", rest);
  if (!ENDINGS.test(file))
    throw new UsageError(
      `${file}: allowed is a name that ends in .tar, .tar.gz, .tgz or .tar.zst, which chooses the compression`,
    );
  const config = loadConfig(process.env, flags);
  const isWhole = await backup(config, databaseFile(config), resolve(file));
  if (config.s3 !== null)
    process.stderr.write(`sandbox: the objects in bucket ${config.s3.bucket} are not in the backup\n`);
  process.stderr.write(
    isWhole ? `${file} is written\n` : `${file} is written; some files changed meanwhile, as sandboxes write to them\n`,
  );
  return 0;
}

/** The file of the records. Throws ConfigError for a database server, which has its own ways. */
export function databaseFile(config: Config): string {
  if (config.database.kind === "sqlite" && config.database.path !== ":memory:") return config.database.path;
  throw new ConfigError(
    "DATABASE_URL is not a SQLite file: back up a database server by its own means, see deploy/README.md",
  );
}

/** False when files of workspaces changed while they were read. */
async function backup(config: Config, database: string, file: string): Promise<boolean> {
  if (!existsSync(database))
    throw new ConfigError(`DATA_DIR=${config.dataDir} has no records: ${database} is not there`);
  if (!existsSync(dirname(file))) throw new ConfigError(`${file} can't be written: its directory is not there`);
  const aside = mkdtempSync(join(dirname(file), ".sandbox-backup-"));
  try {
    const description: BackupDescription = { format: 1, version: VERSION, created_at: new Date().toISOString() };
    writeFileSync(join(aside, DESCRIPTION), `${JSON.stringify(description)}\n`);
    // First: what the records name is then there when the files are read, but for what is deleted meanwhile.
    snapshotSqlite(database, join(aside, DATABASE));
    const partial = join(aside, basename(file));
    const directories = KEPT_DIRECTORIES.filter((name) => existsSync(join(config.dataDir, name)));
    const isWhole = await writeArchive(partial, [
      { from: aside, names: [DESCRIPTION, DATABASE] },
      { from: config.dataDir, names: directories },
    ]);
    renameSync(partial, file);
    return isWhole;
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
}
