import { setTimeout as delay } from "node:timers/promises";
import type { Connection } from "mysql2";
import { AppError } from "../errors.ts";
import { parseAddress } from "./mysql/address.ts";
import { ask, connector, execute } from "./mysql/connect.ts";
import { ConnectionLost, isConnectionOver, translated, wasUndone, whileRunning } from "./mysql/failure.ts";
import { Pool } from "./mysql/pool.ts";
import { inspect, startOn, type Inspected, type StartOptions } from "./mysql/start.ts";
import type { Dialect, Row, Sql, SqlValue, Statement } from "./sql.ts";

const DIALECT: Dialect = {
  name: "mysql",
  pagingAsLiterals: true,
  onConflictOverwrite: (_key, columns) =>
    ` ON DUPLICATE KEY UPDATE ${columns.map((name) => `${name} = VALUES(${name})`).join(", ")}`,
};

const ATTEMPTS = 10;
const BACKOFF_MS = 10;
const MAX_BACKOFF_MS = 300;

/** MariaDB over a bounded pool of connections. */
class MysqlDatabase implements Sql {
  readonly dialect = DIALECT;
  readonly maxTextBytes: number;
  readonly #pool: Pool;

  constructor(pool: Pool, maxTextBytes: number) {
    this.#pool = pool;
    this.maxTextBytes = maxTextBytes;
  }

  async query(sql: string, values: readonly SqlValue[] = []): Promise<Row[]> {
    this.#checkSize(values);
    const isRead = /^\s*SELECT\b/i.test(sql);
    return (await this.#retrying(isRead, (connection) => execute(connection, sql, values))) as Row[];
  }

  async run(sql: string, values: readonly SqlValue[] = []): Promise<number> {
    this.#checkSize(values);
    return (await this.#retrying(false, (connection) => execute(connection, sql, values))) as number;
  }

  batch(statements: readonly Statement[]): Promise<number> {
    for (const { values } of statements) this.#checkSize(values);
    return this.#retrying(true, (connection) => inTransaction(connection, statements));
  }

  // oxlint-disable-next-line require-await
  async close(): Promise<void> {
    this.#pool.close();
  }

  /** A packet that is too large would cost the connection and be answered with no more than its end. */
  #checkSize(values: readonly SqlValue[]): void {
    let bytes = 0;
    for (const value of values) if (typeof value === "string") bytes += value.length;
    if (bytes * 3 <= this.maxTextBytes) return;
    bytes = 0;
    for (const value of values) if (typeof value === "string") bytes += Buffer.byteLength(value);
    if (bytes > this.maxTextBytes)
      throw new AppError("body_too_large", `${bytes} bytes are more than the database takes at once`);
  }

  /**
   * Runs `work` on a connection, again when the server has undone it, and with `repeatable` also when the connection was
   * lost under it before anything was committed.
   */
  async #retrying<T>(repeatable: boolean, work: (connection: Connection) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#pool.use(
          (connection) =>
            work(connection).catch((error: unknown) => {
              throw whileRunning(error);
            }),
          isConnectionOver,
        );
      } catch (error) {
        const isLost = error instanceof ConnectionLost;
        if (isLost) this.#pool.suspect();
        const again = wasUndone(error) || (isLost && repeatable && !error.maybeCommitted);
        if (!again || attempt === ATTEMPTS) throw translated(error);
        await delay(Math.min(BACKOFF_MS * 2 ** attempt, MAX_BACKOFF_MS) * Math.random());
      }
    }
  }
}

async function inTransaction(connection: Connection, statements: readonly Statement[]): Promise<number> {
  await ask(connection, "START TRANSACTION");
  try {
    let first: number | undefined;
    for (const { sql, values } of statements) {
      const met = (await execute(connection, sql, values)) as number;
      first ??= met;
      if (first === 0) break;
    }
    await commit(connection);
    return first ?? 0;
  } catch (error) {
    const isLost = whileRunning(error) instanceof ConnectionLost;
    if (!isLost) await ask(connection, "ROLLBACK");
    throw error;
  }
}

async function commit(connection: Connection): Promise<void> {
  try {
    await ask(connection, "COMMIT");
  } catch (error) {
    const lost = whileRunning(error);
    throw lost instanceof ConnectionLost ? new ConnectionLost(lost, true) : error;
  }
}

/** Outputs and return values are at most 10 MB each unless configured otherwise; the rest is room for their framing. */
const DEFAULTS: StartOptions = { waitMs: 60_000, largestValueBytes: 11 * 1024 ** 2, onWaiting: () => {} };

/**
 * Opens the database behind `mysql://…` and brings its schema up to date; several processes may do so at once. Waits for a
 * server that can't be reached yet. Throws ConfigError.
 */
export async function openMysql(url: string, options: Partial<StartOptions> = {}): Promise<Sql> {
  const address = parseAddress(url);
  const connect = await connector(address);
  const { connection, maxTextBytes } = await startOn(address, connect, { ...DEFAULTS, ...options });
  return new MysqlDatabase(new Pool(connect, connection), maxTextBytes);
}

/** Looks at the database behind `mysql://…` and changes nothing. Throws ConfigError that says why it can't be used. */
export async function inspectMysql(url: string): Promise<Inspected> {
  const address = parseAddress(url);
  return inspect(address, await connector(address), DEFAULTS.largestValueBytes);
}
