import type { Row, SqlValue, Statement } from "./sql.ts";

/** How a field is kept: as it is, as JSON text (null stays NULL), or a boolean as 0 or 1. */
type Kind = "plain" | "json" | "boolean";

function encode(kind: Kind, value: unknown): SqlValue {
  if (value === undefined || value === null) return null;
  if (kind === "json") return JSON.stringify(value);
  if (kind === "boolean") return value === true ? 1 : 0;
  return value as SqlValue;
}

function decode(kind: Kind, value: SqlValue | undefined): unknown {
  if (value === null || value === undefined) return null;
  if (kind === "json") return JSON.parse(value as string) as unknown;
  if (kind === "boolean") return value === 1;
  return value;
}

/** The fields of a record that one table keeps, a column of the same name each. */
export class Columns<T> {
  readonly names: readonly (keyof T & string)[];
  readonly #kinds: ReadonlyMap<string, Kind>;

  constructor(kinds: { [K in keyof T]-?: Kind }) {
    this.#kinds = new Map(Object.entries<Kind>(kinds));
    this.names = Object.keys(kinds) as (keyof T & string)[];
  }

  /** The values of all columns, in the order of `names`. */
  values(record: T): SqlValue[] {
    const values: SqlValue[] = [];
    for (const [name, kind] of this.#kinds) values.push(encode(kind, record[name as keyof T]));
    return values;
  }

  /** `a = ?, b = ?` for those of the fields that are given and kept here. */
  assignments(fields: Partial<T>): Statement {
    const names: string[] = [];
    const values: SqlValue[] = [];
    for (const [name, value] of Object.entries(fields)) {
      const kind = this.#kinds.get(name);
      if (kind === undefined || value === undefined) continue;
      names.push(`${name} = ?`);
      values.push(encode(kind, value));
    }
    return { sql: names.join(", "), values };
  }

  /** Copies the columns of a row into a record. */
  read(row: Row, into: Partial<T> = {}): T {
    const record = into as Record<string, unknown>;
    for (const [name, kind] of this.#kinds) record[name] = decode(kind, row[name]);
    return record as T;
  }

  /** `a, b`, each with the table's alias before it when there is one. */
  list(alias?: string): string {
    return this.names.map((name) => (alias === undefined ? name : `${alias}.${name}`)).join(", ");
  }
}
