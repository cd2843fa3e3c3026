import { paging, type Row, type Sql } from "./sql.ts";

type Walk = { before: string; after: number; now: string; limit: number };

/**
 * One page of a walk in the order of creation over a table with seq, id, created_at and completed_at: its rows that ended
 * before `before`, with `columns`. The walk ends where a whole page is younger; what a clock that was ahead has written is passed over.
 */
export async function agedRows(
  sql: Sql,
  table: "sessions" | "executions",
  columns: readonly string[],
  walk: Walk,
): Promise<{ rows: Row[]; next: number | null }> {
  const end = paging(sql.dialect, { limit: walk.limit, offset: 0 });
  const names = ["seq", "id", "created_at", "completed_at", ...columns].join(", ");
  const text = `SELECT ${names} FROM ${table} WHERE seq > ? ORDER BY seq${end.sql}`;
  const page = await sql.query(text, [walk.after, ...end.values]);
  const isYoung = ({ created_at: at }: Row): boolean => String(at) >= walk.before && String(at) <= walk.now;
  const isLast = page.length < walk.limit || page.every(isYoung);
  return {
    rows: page.filter(({ completed_at: at }) => at !== null && String(at) < walk.before),
    next: isLast ? null : Number(page.at(-1)?.["seq"]),
  };
}
