import { AppError } from "../../errors.ts";
import { ReferenceViolation, UniqueViolation } from "../sql.ts";

/** What is read of an error of the client library. */
type ServerError = { errno?: number; code?: string; message: string; fatal?: boolean; sqlMessage?: string };

/** A connection that could not be made, or not in time: nothing was sent. */
export class Unreachable extends Error {
  constructor(cause: unknown) {
    super("the database can't be reached", { cause });
    this.name = "Unreachable";
  }
}

/** A connection that ended under a statement: whether the server has carried it out is not known. */
export class ConnectionLost extends Error {
  /** It was lost under a COMMIT. */
  readonly maybeCommitted: boolean;

  constructor(cause: unknown, maybeCommitted = false) {
    super("the connection to the database was lost", { cause });
    this.name = "ConnectionLost";
    this.maybeCommitted = maybeCommitted;
  }
}

/** Deadlock, lock wait timeout, changed since the snapshot, rollback: the server has undone the whole transaction or statement. */
const UNDONE = new Set([1213, 1205, 1020, 1637]);
/** The server ends, or somebody has ended the connection or its statement. */
const ENDED = new Set([1053, 1077, 1079, 1317, 1927, 3169, 4031]);
/** Too many connections, out of memory, disk full, read-only, error in the storage, too many prepared statements. */
const UNABLE = new Set([
  1021, 1028, 1030, 1037, 1038, 1040, 1041, 1114, 1129, 1180, 1203, 1290, 1461, 1792, 1836, 1969,
]);
/** What the server refuses to a connection: user, database, host. */
const REFUSED = new Set([1044, 1045, 1049, 1130, 1698]);
const LOST_CODES = /^(PROTOCOL_|ECONN|EPIPE|ETIMEDOUT|EHOST|ENET|ENOTCONN|ERR_SOCKET|ERR_STREAM)/;

/** Whether the server has undone what was asked, so that asking again is safe. */
export function wasUndone(error: unknown): boolean {
  return UNDONE.has((error as ServerError).errno ?? 0);
}

/** What became of a connection under a statement: `ConnectionLost` when it is of no more use, else the error itself. */
export function whileRunning(error: unknown): unknown {
  if (error instanceof ConnectionLost) return error;
  const { errno = 0, code = "", fatal = false } = error as ServerError;
  return fatal || ENDED.has(errno) || LOST_CODES.test(code) ? new ConnectionLost(error) : error;
}

/** Whether another connection may fare better, such as one to the server that took over. */
export function isConnectionOver(error: unknown): boolean {
  return error instanceof ConnectionLost || UNABLE.has((error as ServerError).errno ?? 0);
}

/** The error as the interface `Sql` promises it. */
export function translated(error: unknown): unknown {
  if (error instanceof Unreachable || error instanceof ConnectionLost) return unavailable(error);
  const { errno = 0, message } = error as ServerError;
  if (errno === 1062)
    return new UniqueViolation(/for key '(?:[^']*\.)?([^'.]*)'$/.exec(message)?.[1] ?? message, error);
  if (errno === 1452 || errno === 1216) return new ReferenceViolation(error);
  if (UNDONE.has(errno) || UNABLE.has(errno) || REFUSED.has(errno)) return unavailable(error);
  return error;
}

/** What callers are told of a database that can't serve now. */
export function unavailable(cause: unknown): AppError {
  return new AppError("store_unavailable", "the database can't be used now", { cause, retryAfterS: 1 });
}
