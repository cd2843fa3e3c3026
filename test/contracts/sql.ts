import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { AppError } from "../../src/errors.ts";
import { SqlExecutionStore } from "../../src/stores/execution-store.ts";
import { SqlKeyStore } from "../../src/stores/key-store.ts";
import { SqlAuditStore } from "../../src/stores/audit-store.ts";
import { SqlSessionStore } from "../../src/stores/session-store.ts";
import { UniqueViolation, type Sql } from "../../src/stores/sql.ts";
import { SqlTemplateStore } from "../../src/stores/template-store.ts";
import { at, executionRecord, sessionRecord, templateRecord } from "./records.ts";
import { SqlUpkeepStore } from "../../src/stores/upkeep-store.ts";
import { SqlWarmPodStore } from "../../src/stores/warm-pod-store.ts";
import type { Stores } from "./stores.ts";

export type SqlSubject = { sql: Sql; close(): Promise<void> };

export function storesOn(sql: Sql): Omit<Stores, "close"> {
  return {
    templates: new SqlTemplateStore(sql),
    sessions: new SqlSessionStore(sql),
    audit: new SqlAuditStore(sql),
    executions: new SqlExecutionStore(sql),
    keys: new SqlKeyStore(sql),
    upkeep: new SqlUpkeepStore(sql),
    warmPods: new SqlWarmPodStore(sql),
  };
}

/** What every database keeps to, below the stores. `open` gives one without records. */
export function sqlContract(name: string, open: () => Promise<SqlSubject>): void {
  describe(`${name}: statements`, () => {
    let subject: SqlSubject;
    let sql: Sql;
    beforeAll(async () => {
      subject = await open();
      sql = subject.sql;
    });
    afterAll(() => subject.close());

    const insert = (version: number) => ({
      sql: "INSERT INTO schema_migrations VALUES (?, 'x', 'y')",
      values: [version],
    });

    test("a batch that fails half way leaves nothing", async () => {
      const error = await sql.batch([100, 101, 100].map(insert)).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(UniqueViolation);
      expect(await sql.query("SELECT version FROM schema_migrations WHERE version >= 100")).toEqual([]);
    });

    test("a batch stops when its first statement meets nothing", async () => {
      const count = "SELECT COUNT(*) AS count FROM schema_migrations";
      const before = await sql.query(count);
      const met = await sql.batch([
        { sql: "UPDATE schema_migrations SET name = 'x' WHERE version = ?", values: [50] },
        { sql: "DELETE FROM schema_migrations", values: [] },
      ]);
      expect(met).toBe(0);
      expect(await sql.query(count)).toEqual(before);
      expect(before[0]?.["count"]).toBeGreaterThan(0);
    });

    test("a statement meets rows also when it changes nothing in them", async () => {
      expect(await sql.run("UPDATE schema_migrations SET name = name WHERE version = ?", [1])).toBe(1);
      expect(await sql.run("UPDATE schema_migrations SET name = name WHERE version = ?", [5000])).toBe(0);
    });

    test("batches of many callers at once do not mix", async () => {
      const { executions, sessions, templates } = storesOn(sql);
      await templates.insert(templateRecord());
      await sessions.insert(sessionRecord());
      const lease = { owner: "me", expiresAt: at(15) };
      await Promise.all(
        Array.from({ length: 50 }, async (_, i) => {
          await executions.insert(executionRecord({ id: `e${i}`, code: `code ${i}` }), lease);
          await executions.update(`e${i}`, { status: "completed", stdout: `out ${i}` }, ["pending"]);
        }),
      );
      expect((await executions.ids("s", { limit: 100, offset: 0 })).items).toHaveLength(50);
      for (let i = 0; i < 50; i++)
        expect(await executions.get(`e${i}`)).toMatchObject({ code: `code ${i}`, stdout: `out ${i}` });
    });

    test("many different texts do not exhaust the prepared statements", async () => {
      for (let i = 0; i < 1500; i++) expect(await sql.query(`SELECT ${i} AS i`)).toEqual([{ i }]);
      expect(await sql.query("SELECT 1 AS i")).toEqual([{ i: 1 }]);
    });

    test("what is no statement is a fault of the program, not of the database", async () => {
      const error = await sql.query("SELEKT 1").catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(Error);
      expect(error).not.toBeInstanceOf(AppError);
      expect(await sql.query("SELECT 1 AS i")).toEqual([{ i: 1 }]);
    });
  });
}
