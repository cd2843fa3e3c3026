import type { Connection, ConnectionOptions, QueryError, ResultSetHeader } from "mysql2";
import type { Row, SqlValue } from "../sql.ts";
import type { Address } from "./address.ts";
import { ConnectionLost } from "./failure.ts";

/** How long a new connection may take, and how long the server may take over one statement. */
const CONNECT_MS = 2000;
const STATEMENT_MS = 10_000;

/** What the statements rely on, whatever the server's own defaults are. */
const SESSION = [
  `SET NAMES utf8mb4 COLLATE utf8mb4_nopad_bin, time_zone = '+00:00', autocommit = 1, innodb_lock_wait_timeout = 5,
    sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'`,
  "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
];

/** Makes connections to the address; loads the client library, which nothing else does. */
export async function connector(address: Address): Promise<() => Promise<Connection>> {
  const { createConnection } = await import("mysql2");
  const { host, port, socketPath, user, password, database, tls } = address;
  const options: ConnectionOptions = {
    ...(socketPath === null ? { host, port } : { socketPath }),
    user,
    password,
    database,
    charset: "utf8mb4_bin",
    connectTimeout: CONNECT_MS,
    maxPreparedStatements: 256,
    ...(tls === null
      ? {}
      : { ssl: { ...(tls === true ? {} : { ca: tls }), rejectUnauthorized: true, verifyIdentity: true } }),
  };
  return async () => {
    const connection = createConnection(options);
    // Also the last listener for errors: one without any would end the process.
    const connected = Promise.withResolvers<void>();
    connection.on("error", connected.reject);
    connection.once("connect", () => connected.resolve());
    await connected.promise;
    try {
      for (const sql of SESSION) await ask(connection, sql);
    } catch (error) {
      connection.destroy();
      throw error;
    }
    return connection;
  };
}

/** The rows of a prepared statement, or the number of rows that it met. */
export async function execute(
  connection: Connection,
  sql: string,
  values: readonly SqlValue[],
): Promise<Row[] | number> {
  return answer<Row[] | ResultSetHeader>(connection, STATEMENT_MS, (done) =>
    connection.execute(sql, [...values], done as never),
  ).then((result) => (Array.isArray(result) ? result : result.affectedRows));
}

/** The same for a statement that is sent as text and without values. `limitMs`: how long the server may take. */
export async function ask(connection: Connection, sql: string, limitMs = STATEMENT_MS): Promise<Row[]> {
  const result = await answer<Row[]>(connection, limitMs, (done) => connection.query(sql, done as never));
  return Array.isArray(result) ? result : [];
}

type Done<T> = (error: QueryError | null, result: T) => void;

function answer<T>(connection: Connection, limitMs: number, start: (done: Done<T>) => unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new ConnectionLost(`no answer within ${limitMs} ms`));
      connection.destroy();
    }, limitMs);
    start((error, result) => {
      clearTimeout(timer);
      if (error) reject(error);
      else resolve(result);
    });
  });
}
