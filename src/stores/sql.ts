import type { Page } from "../sessions/session.ts";

export type SqlValue = string | number | null;
export type Row = Record<string, SqlValue>;
export type Statement = { sql: string; values: readonly SqlValue[] };

/** What differs between the databases. Everything else in the stores' SQL is common to them. */
export type Dialect = {
  name: "sqlite" | "mysql";
  /** LIMIT and OFFSET stand as numbers in the text, because the server does not take them as parameters. */
  pagingAsLiterals: boolean;
  /** The end of an INSERT that overwrites `columns` of the row whose `key` it meets. */
  onConflictOverwrite(key: string, columns: readonly string[]): string;
};

/**
 * A database with `?` parameters. Text compares by bytes. Methods throw UniqueViolation, ReferenceViolation, or AppError
 * `store_unavailable` when the database can't serve now. Statement texts come from a small fixed set: they stay prepared.
 */
export interface Sql {
  readonly dialect: Dialect;
  /** Most bytes of UTF-8 that the texts of one statement can have; more are refused with `body_too_large`. */
  readonly maxTextBytes: number;
  /** The rows of a SELECT, or of a statement with RETURNING. */
  query(sql: string, values?: readonly SqlValue[]): Promise<Row[]>;
  /** The number of rows that the statement met. */
  run(sql: string, values?: readonly SqlValue[]): Promise<number>;
  /**
   * Runs the statements as one transaction that nothing else comes between, and returns the rows that the first one met.
   * When it met none, the others are not run.
   */
  batch(statements: readonly Statement[]): Promise<number>;
  /** Gives back the disk of what was deleted and renews statistics, in steps between which others are served. Absent: the server does. */
  tidy?(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** A row with the same unique value exists. `constraint` holds the name of the index or its columns. */
export class UniqueViolation extends Error {
  readonly constraint: string;

  constructor(constraint: string, cause: unknown) {
    super(`unique constraint: ${constraint}`, { cause });
    this.name = "UniqueViolation";
    this.constraint = constraint;
  }
}

/** The row that the statement refers to does not exist (any more). */
export class ReferenceViolation extends Error {
  constructor(cause: unknown) {
    super("foreign key constraint", { cause });
    this.name = "ReferenceViolation";
  }
}

/** The end of a SELECT that returns one page. */
export function paging(dialect: Dialect, page: Page): Statement {
  const limit = checkedCount(page.limit);
  const offset = checkedCount(page.offset);
  if (dialect.pagingAsLiterals) return { sql: ` LIMIT ${limit} OFFSET ${offset}`, values: [] };
  return { sql: " LIMIT ? OFFSET ?", values: [limit, offset] };
}

function checkedCount(count: number): number {
  if (!Number.isSafeInteger(count) || count < 0) throw new RangeError(`not a count of rows: ${count}`);
  return count;
}

/** As many `?` as there are values, for IN. */
export function marks(values: readonly unknown[]): string {
  return values.map(() => "?").join(", ");
}
