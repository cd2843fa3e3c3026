import { setTimeout as delay } from "node:timers/promises";
import type { Connection } from "mysql2";
import { ConfigError } from "../../config.ts";
import { pendingMigrations } from "../migrations/migration.ts";
import { MYSQL_MIGRATIONS } from "../migrations/mysql.ts";
import type { Row } from "../sql.ts";
import type { Address } from "./address.ts";
import { ask } from "./connect.ts";
import { isConnectionOver, whileRunning } from "./failure.ts";

const COLLATION = "utf8mb4_nopad_bin";
const NO_SUCH_TABLE = 1146;
const RETRY_MS = 500;
/** How long a start waits for another replica's migration, and how long one of its statements may take. */
const MIGRATION_MS = 600_000;
const LOCK_WAIT_S = 5;

type Fault = { errno?: number; code?: string; message: string };

export type StartOptions = {
  /** How long to wait for a server that can't be reached yet, in milliseconds. */
  waitMs: number;
  /** Largest value of a record, in bytes of UTF-8, that the server must take. */
  largestValueBytes: number;
  /** Told once, why the start waits. */
  onWaiting: (reason: string) => void;
};

/** A connection to a server that can keep the records, and the most bytes of UTF-8 that a value can have there. */
export type Started = { connection: Connection; maxTextBytes: number };

/**
 * Checks the server and brings the schema up to date. Waits for a server that can't be reached yet. Throws ConfigError for
 * what the operator must change.
 */
export async function startOn(
  address: Address,
  connect: () => Promise<Connection>,
  { waitMs, largestValueBytes, onWaiting }: StartOptions,
): Promise<Started> {
  const until = performance.now() + waitMs;
  for (let isTold = false; ; isTold = true) {
    try {
      return await attempt(address, connect, largestValueBytes);
    } catch (error) {
      if (error instanceof ConfigError) throw error;
      const fault = error as Fault;
      const refused = refusal(address, fault);
      if (refused !== null) throw refused;
      if (fault.errno !== undefined && fault.errno > 0 && !isConnectionOver(whileRunning(fault))) throw error;
      const reason = `${address.shown} can't be reached: ${fault.code ?? fault.message}`;
      if (performance.now() >= until) throw new ConfigError(`DATABASE_URL=${reason}`);
      if (!isTold) onWaiting(reason);
      await delay(RETRY_MS);
    }
  }
}

/** What a look at the server found: in words, and its clock when it answered. */
export type Inspected = { found: string; serverMs: number };

/** Looks whether the server can keep the records, and changes nothing. Throws ConfigError that says why it can't. */
export async function inspect(
  address: Address,
  connect: () => Promise<Connection>,
  largestValueBytes: number,
): Promise<Inspected> {
  let connection: Connection | null = null;
  try {
    connection = await connect();
    await checkServer(address, connection, largestValueBytes);
    const schema = await schemaVersion(connection);
    const pending = pendingMigrations(MYSQL_MIGRATIONS, schema).length;
    if (schema > 0) await checkColumns(address, connection);
    const [row] = await ask(connection, "SELECT VERSION() AS version, UNIX_TIMESTAMP(NOW(3)) * 1000 AS now");
    const state = pending === 0 ? `schema ${schema}` : `schema ${schema}, ${pending} migrations to come`;
    const found = schema === 0 ? "no schema yet, made at the first start" : state;
    return { found: `${address.shown} is ${String(row?.["version"])}, ${found}`, serverMs: Number(row?.["now"]) };
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const fault = error as Fault;
    const why = fault.code ?? fault.message;
    throw refusal(address, fault) ?? new ConfigError(`DATABASE_URL=${address.shown} can't be reached: ${why}`);
  } finally {
    connection?.destroy();
  }
}

async function attempt(
  address: Address,
  connect: () => Promise<Connection>,
  largestValueBytes: number,
): Promise<Started> {
  const connection = await connect();
  try {
    const maxTextBytes = await checkServer(address, connection, largestValueBytes);
    await migrate(address, connection);
    await checkColumns(address, connection);
    return { connection, maxTextBytes };
  } catch (error) {
    connection.destroy();
    throw error;
  }
}

/** What the operator must change when the server answers so; null when it may be better later. */
function refusal({ shown, user, database }: Address, { errno, message }: Fault): ConfigError | null {
  const reasons: Record<number, string> = {
    1045: `the server refuses user ${user} or its password`,
    1698: `the server refuses user ${user} or its password`,
    1251: `the server wants user ${user} to log in in a way that is not supported: allowed is mysql_native_password`,
    1130: "the server takes no connections from this host",
    1044: `user ${user} may not use database ${database}: GRANT ALL ON \`${database}\`.* TO it`,
    1142: `user ${user} may not use the tables of ${database}: GRANT ALL ON \`${database}\`.* TO it`,
    1049: `the server has no database ${database}: CREATE DATABASE \`${database}\` CHARACTER SET utf8mb4`,
    1115: "the server is too old: MariaDB 10.6 or later is needed",
    1273: "the server is not MariaDB: MariaDB 10.6 or later is needed",
  };
  const reason =
    reasons[errno ?? 0] ?? (message.includes("SSL") || message.includes("certificate") ? message : undefined);
  return reason === undefined ? null : new ConfigError(`DATABASE_URL=${shown}: ${reason.replaceAll("\n", " ")}`);
}

async function checkServer(address: Address, connection: Connection, largestValueBytes: number): Promise<number> {
  const { shown, database } = address;
  const [row] = await ask(
    connection,
    "SELECT VERSION() AS version, @@max_allowed_packet AS packet, @@character_set_database AS charset",
  );
  const { version, packet, charset } = row as Row;
  const [, major, minor] = /^(\d+)\.(\d+)\..*MariaDB/i.exec(String(version)) ?? [];
  if (major === undefined || Number(major) * 100 + Number(minor) < 1006)
    throw new ConfigError(`DATABASE_URL=${shown}: the server is ${version}: MariaDB 10.6 or later is needed`);
  if (charset !== "utf8mb4")
    throw new ConfigError(
      `DATABASE_URL=${shown}: the character set of ${database} is ${charset}: ALTER DATABASE \`${database}\` CHARACTER SET utf8mb4`,
    );
  // The rest of a statement's packet: its other values.
  const maxTextBytes = Number(packet) - 512 * 1024;
  if (maxTextBytes < largestValueBytes)
    throw new ConfigError(
      `DATABASE_URL=${shown}: the server's max_allowed_packet is ${packet}: at least ${largestValueBytes + 512 * 1024} is needed for the largest outputs`,
    );
  return maxTextBytes;
}

/** Texts that compare otherwise than by their bytes would mix up ids: tables that were restored under another charset. */
async function checkColumns({ shown }: Address, connection: Connection): Promise<void> {
  const [row] = await ask(
    connection,
    `SELECT table_name AS name, collation_name AS collation FROM information_schema.columns
      WHERE table_schema = DATABASE() AND collation_name <> '${COLLATION}' AND table_name IN
        ('templates', 'sessions', 'executions', 'execution_inputs', 'execution_outputs', 'api_keys') LIMIT 1`,
  );
  if (row !== undefined)
    throw new ConfigError(
      `DATABASE_URL=${shown}: table ${row["name"]} has texts in ${row["collation"]}: ALTER TABLE ${row["name"]} CONVERT TO CHARACTER SET utf8mb4 COLLATE ${COLLATION}`,
    );
}

/** Brings the schema up to date, one replica at a time; a start that finds it so does not wait for the others. */
async function migrate({ shown }: Address, connection: Connection): Promise<void> {
  if (pendingMigrations(MYSQL_MIGRATIONS, await schemaVersion(connection)).length === 0) return;
  // Locks are the server's, not a database's. The connection's end lets go of it as well.
  const lock = "CONCAT('sandbox-schema-', MD5(DATABASE()))";
  const until = performance.now() + MIGRATION_MS;
  for (;;) {
    const [row] = await ask(connection, `SELECT GET_LOCK(${lock}, ${LOCK_WAIT_S}) AS got`);
    if (row?.["got"] === 1) break;
    if (performance.now() > until)
      throw new ConfigError(`DATABASE_URL=${shown}: another process has been changing the schema for ten minutes`);
  }
  await ask(
    connection,
    `CREATE TABLE IF NOT EXISTS schema_migrations (version INT NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL,
      applied_at VARCHAR(32) NOT NULL) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = ${COLLATION}`,
  );
  for (const { version, name, sql } of pendingMigrations(MYSQL_MIGRATIONS, await schemaVersion(connection))) {
    for (const statement of sql.split(/;\s*$/m))
      if (statement.trim() !== "") await ask(connection, statement, MIGRATION_MS);
    await ask(
      connection,
      `INSERT INTO schema_migrations VALUES (${version}, '${name}', '${new Date().toISOString()}')`,
    );
  }
  await ask(connection, `SELECT RELEASE_LOCK(${lock})`);
}

/** 0 for a database without a schema. Needs no right to make tables. */
async function schemaVersion(connection: Connection): Promise<number> {
  try {
    const [row] = await ask(connection, "SELECT MAX(version) AS version FROM schema_migrations");
    return Number(row?.["version"] ?? 0);
  } catch (error) {
    if ((error as Fault).errno === NO_SUCH_TABLE) return 0;
    throw error;
  }
}
