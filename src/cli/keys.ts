import { existsSync } from "node:fs";
import { systemClock } from "../clock.ts";
import { ConfigError, loadConfig, takeFlags } from "../config.ts";
import { openDataDirectory } from "../data-directory.ts";
import { AppError } from "../errors.ts";
import { openRecords } from "../home.ts";
import { OPERATOR_TENANT } from "../keys/key.ts";
import { Keys, type KeyView } from "../keys/keys.ts";
import type { Environment } from "../setting.ts";
import { SqlKeyStore } from "../stores/key-store.ts";

/** How long a person waits for a database that can't be reached, in milliseconds. */
const WAIT_MS = 5000;

const USAGE = `sandbox keys: makes, lists and revokes API keys

Usage:
  sandbox keys create NAME [--tenant TENANT]   makes a key and prints it, this once; TENANT is NAME unless given
  sandbox keys list                            shows the keys there are
  sandbox keys revoke NAME                     ends a key at once

Works on the records of the service, also while it runs: those of DATABASE_URL, else of the data directory (DATA_DIR).
Settings are also taken as flags, such as --data-dir DIR.
`;

/** Where a command reads its settings and writes its lines. */
export type Io = { env: Environment; out(text: string): void; err(text: string): void };

const processIo: Io = {
  env: process.env,
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
};

type Command =
  | { name: "create"; key: string; tenant: string | undefined }
  | { name: "list" }
  | { name: "revoke"; key: string };

/** `sandbox keys …`; `argv` is what follows `keys`. Resolves with the exit code: 0, 1 refused, 2 wrong usage or settings. */
export async function keysCommand(argv: readonly string[], io: Io = processIo): Promise<number> {
  try {
    const { flags, rest } = takeFlags(argv);
    if (rest.includes("--help") || rest.includes("-h")) {
      io.out(USAGE);
      return 0;
    }
    const command = parse(rest);
    if (command === null) {
      io.err(rest.length === 0 ? USAGE : `sandbox keys: ${whatIsWrong(rest)}; see sandbox keys --help\n`);
      return 2;
    }
    const config = loadConfig(io.env, flags);
    const { database, dataDir } = config;
    if (command.name !== "create" && database.kind === "sqlite" && !existsSync(database.path))
      throw new ConfigError(`DATA_DIR=${dataDir} has no records: ${database.path} is not there`);
    return await withKeys(config, (keys) => execute(command, keys, io));
  } catch (error) {
    if (!(error instanceof ConfigError) && !(error instanceof AppError)) throw error;
    io.err(`sandbox keys: ${error.message}\n`);
    return error instanceof ConfigError ? 2 : 1;
  }
}

function parse(words: readonly string[]): Command | null {
  const [name, ...rest] = words.flatMap((word) =>
    word.startsWith("--tenant=") ? ["--tenant", word.slice(9)] : [word],
  );
  if (name === "list" && rest.length === 0) return { name };
  const at = rest.indexOf("--tenant");
  const tenant = at < 0 ? undefined : rest.splice(at, 2)[1];
  const [key, ...more] = rest;
  if (key === undefined || key.startsWith("-") || more.length > 0 || (at >= 0 && tenant === undefined)) return null;
  if (name === "create") return { name, key, tenant };
  return name === "revoke" && at < 0 ? { name, key } : null;
}

function whatIsWrong(words: readonly string[]): string {
  const [name = "", ...more] = words;
  const isUnnamed = more.length === 0 && (name === "create" || name === "revoke");
  return isUnnamed ? `${name} needs the NAME of a key` : `${JSON.stringify(words.join(" "))} is not understood`;
}

async function withKeys(config: ReturnType<typeof loadConfig>, work: (keys: Keys) => Promise<number>): Promise<number> {
  // The lock of the data directory is left alone: SQLite itself keeps a running server and this command apart.
  if (config.database.kind === "sqlite") openDataDirectory(config.dataDir);
  const sql = await openRecords(config, () => {}, WAIT_MS);
  try {
    return await work(new Keys({ store: new SqlKeyStore(sql), clock: systemClock, configured: config.apiKeys }));
  } finally {
    await sql.close();
  }
}

async function execute(command: Command, keys: Keys, io: Io): Promise<number> {
  switch (command.name) {
    case "create": {
      const made = await keys.create(OPERATOR_TENANT, { name: command.key, tenant: command.tenant });
      io.err(`key ${made.name} of tenant ${made.tenant}; it is shown this once:\n`);
      io.out(`${made.key}\n`);
      return 0;
    }
    case "list":
      io.out(table(await keys.list(OPERATOR_TENANT)));
      return 0;
    case "revoke":
      await keys.revoke(OPERATOR_TENANT, command.key);
      io.err(`key ${command.key} is revoked\n`);
      if (!(await keys.any()))
        io.err("no key is left: bound to loopback, the API is open again to every user of this machine\n");
      return 0;
  }
}

function table(keys: readonly KeyView[]): string {
  const rows = keys.map((key) => [
    key.name,
    key.tenant,
    key.hint,
    key.revoked_at === null ? (key.source === "configured" ? "from API_KEYS" : "valid") : `revoked ${key.revoked_at}`,
    key.created_at ?? "-",
    key.last_used_at ?? "never",
  ]);
  const all = [["NAME", "TENANT", "KEY", "STATE", "CREATED", "LAST USED"], ...rows];
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0))) ?? [];
  return all
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}
