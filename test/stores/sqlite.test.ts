import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "../../src/config.ts";
import { AppError } from "../../src/errors.ts";
import { SQLITE_MIGRATIONS } from "../../src/stores/migrations/sqlite.ts";
import type { Sql, SqlValue } from "../../src/stores/sql.ts";
import { openSqlite } from "../../src/stores/sqlite.ts";
import { at, executionRecord, sessionRecord, templateRecord } from "../contracts/records.ts";
import { sqlContract, storesOn } from "../contracts/sql.ts";
import { codeOf, storesContract } from "../contracts/stores.ts";

sqlContract("sqlite", async () => {
  const directory = await mkdtemp(join(tmpdir(), "sql-"));
  const sql = openSqlite(join(directory, "sandbox.db"));
  return {
    sql,
    close: async () => {
      await sql.close();
      await rm(directory, { recursive: true });
    },
  };
});

storesContract("sqlite", async () => {
  const directory = await mkdtemp(join(tmpdir(), "stores-"));
  const sql = openSqlite(join(directory, "sandbox.db"));
  return {
    ...storesOn(sql),
    close: async () => {
      await sql.close();
      await rm(directory, { recursive: true });
    },
  };
});

describe("sqlite", () => {
  let directory: string;
  let path: string;
  const opened: Sql[] = [];
  const open = (): Sql => {
    const sql = openSqlite(path);
    opened.push(sql);
    return sql;
  };
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "sqlite-"));
    path = join(directory, "sandbox.db");
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((sql) => sql.close()));
    await rm(directory, { recursive: true });
  });

  test("templates of an older schema are there after an update; the first two follow DEFAULT_TIMEOUT unless changed", async () => {
    const old = new Database(path);
    old.run(
      "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL)",
    );
    for (const { version, name, sql } of SQLITE_MIGRATIONS.filter((one) => one.version < 6)) {
      old.run(sql);
      old.run("INSERT INTO schema_migrations VALUES (?, ?, ?)", [version, name, at(0)]);
    }
    const rows: [string, string][] = [
      ["python-basic", at(0)],
      ["nodejs-basic", at(1)],
      ["mine", at(0)],
    ];
    for (const [id, updatedAt] of rows) {
      const values = [id, id, "i:1", "bun", 0.5, 512, 1024, 300, "{}", 0, 1, at(0), updatedAt, '["json"]', '["x.org"]'];
      old.run(`INSERT INTO templates VALUES (${values.map(() => "?").join(", ")})`, values);
    }
    old.close();
    const { templates } = storesOn(open());
    const kept = { image_url: "i:1", runtime_type: "bun" as const, preload_modules: ["json"], network: ["x.org"] };
    const record = (id: string, fields: object) => templateRecord({ id, name: id, ...kept, ...fields });
    expect(await templates.list()).toEqual([
      record("mine", { default_timeout: 300 }),
      record("nodejs-basic", { default_timeout: 300, updated_at: at(1) }),
      record("python-basic", { default_timeout: null }),
    ]);
    expect(await codeOf(templates.insert(record("other", { name: "mine" })))).toBe("template_exists");
  });

  test("records survive closing, and opening again changes nothing", async () => {
    const first = open();
    await storesOn(first).templates.insert(templateRecord());
    await first.close();
    expect(await storesOn(open()).templates.get("t")).toEqual(templateRecord());
  });

  test("the files are readable by their owner alone, also one that was made otherwise", async () => {
    await writeFile(path, "", { mode: 0o644 });
    await storesOn(open()).templates.insert(templateRecord());
    for (const suffix of ["", "-wal", "-shm"]) expect((await stat(path + suffix)).mode & 0o777).toBe(0o600);
  });

  test("a database of a newer program is refused in one line, untouched", async () => {
    await open().close();
    const raw = new Database(path);
    raw.run("INSERT INTO schema_migrations VALUES (999, 'later', ?)", [at(0)]);
    raw.run("PRAGMA journal_mode = DELETE");
    raw.run("PRAGMA auto_vacuum = NONE");
    raw.run("VACUUM");
    raw.close();
    const before = await readFile(path);
    expect(() => openSqlite(path)).toThrow(ConfigError);
    expect(() => openSqlite(path)).toThrow(/^DATABASE_URL[^\n]*version 999[^\n]*$/);
    expect(await readFile(path)).toEqual(before);
    expect(await readdir(directory)).toEqual(["sandbox.db"]);
  });

  test("a file that is no database is refused in one line that names it", async () => {
    await writeFile(path, "this is not a database, but long enough to be taken for one at first sight ".repeat(20));
    expect(() => openSqlite(path)).toThrow(new RegExp(`^DATABASE_URL=sqlite:${path} [^\n]*$`));
    expect(() => openSqlite(join(directory, "no/such/directory.db"))).toThrow(ConfigError);
  });

  test("two processes' worth of connections see each other's commits", async () => {
    const [here, there] = [storesOn(open()), storesOn(open())];
    await here.templates.insert(templateRecord());
    expect(await there.templates.get("t")).toEqual(templateRecord());
  });

  test("a database that can't be written answers store_unavailable", async () => {
    const sql = open();
    await sql.query("PRAGMA query_only = ON");
    const error = await storesOn(sql)
      .templates.insert(templateRecord())
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(AppError);
    expect(error).toMatchObject({ code: "store_unavailable" });
  });

  test("lists and walks find their rows by an index, before and after the planner has its statistics", async () => {
    const sql = open();
    const { sessions, templates } = storesOn(sql);
    await templates.insert(templateRecord());
    const ended = { status: "terminated", completed_at: at(1) } as const;
    for (let i = 0; i < 3000; i++) await sessions.insert(sessionRecord({ id: `s${i}`, ...ended }));
    const asked: { text: string; values: readonly SqlValue[] }[] = [];
    const noting: Sql = Object.assign(Object.create(sql) as Sql, {
      query: (text: string, values: readonly SqlValue[] = []) => {
        asked.push({ text, values });
        return sql.query(text, values);
      },
    });
    const noted = storesOn(noting);
    const page = { limit: 50, offset: 0 };
    for (const filter of [{}, { status: "failed" }, { template_id: "t" }] as const)
      await noted.sessions.list("default", filter, page);
    await noted.sessions.due(at(0), 100);
    await noted.sessions.idsByStatus(["creating", "running"], "", 100);
    await noted.sessions.endedBefore(at(0), 0, at(0), 100);
    await noted.executions.ids("s1", page);
    await noted.executions.endedBefore(at(0), 0, at(0), 100);
    await noted.executions.unowned(at(0), 100);
    expect(asked.length).toBeGreaterThan(10);
    for (const state of ["before", "after"]) {
      const planner = new Database(path, { readonly: true });
      for (const { text, values } of asked) {
        const steps = planner.query(`EXPLAIN QUERY PLAN ${text}`).all(...values) as { detail: string }[];
        const plan = steps.map(({ detail }) => detail);
        const scans = plan.filter((step) => step.startsWith("SCAN ") && !step.includes(" USING "));
        expect({ state, text, scans }).toEqual({ state, text, scans: [] });
        const sorts = text.includes("ORDER BY seq DESC") ? plan.filter((step) => step.includes("TEMP B-TREE")) : [];
        expect({ state, text, sorts }).toEqual({ state, text, sorts: [] });
      }
      planner.close();
      await sql.tidy?.(new AbortController().signal);
      await sql.query("ANALYZE");
    }
  });

  describe("upkeep", () => {
    const bytesOf = async (suffix = ""): Promise<number> => (await stat(path + suffix)).size;
    const never = new AbortController().signal;
    const fill = async (sql: Sql): Promise<void> => {
      const { executions, sessions, templates } = storesOn(sql);
      await templates.insert(templateRecord());
      await sessions.insert(sessionRecord());
      const lease = { owner: "me", expiresAt: at(15) };
      const stdout = "x".repeat(1_000_000);
      for (let i = 0; i < 60; i++) await executions.insert(executionRecord({ id: `e${i}`, stdout }), lease);
    };

    test("the file shrinks after a deletion, while others are served, and the log is emptied", async () => {
      const sql = open();
      await fill(sql);
      expect(await bytesOf()).toBeGreaterThan(50e6);
      expect(await bytesOf("-wal")).toBeLessThan(70e6);
      await storesOn(sql).executions.deleteBySession("s");
      let isDone = false;
      const tidying = sql.tidy?.(never).finally(() => (isDone = true));
      let served = 0;
      for (; !isDone; served++) {
        expect((await storesOn(sql).sessions.get("s"))?.id).toBe("s");
        await Bun.sleep(1);
      }
      await tidying;
      expect(served).toBeGreaterThan(5);
      expect(await bytesOf()).toBeLessThan(10e6);
      expect(await bytesOf("-wal")).toBe(0);
      expect(await sql.query("PRAGMA integrity_check")).toEqual([{ integrity_check: "ok" }]);
    });

    test("it stops when told, and does not wait for another process that reads", async () => {
      const sql = open();
      await fill(sql);
      const reader = new Database(path, { readonly: true });
      reader.run("BEGIN");
      reader.query("SELECT COUNT(*) FROM sessions").get();
      await storesOn(sql).executions.deleteBySession("s");
      const told = new AbortController();
      const begun = performance.now();
      const tidying = sql.tidy?.(told.signal);
      told.abort();
      await tidying;
      await sql.tidy?.(never);
      expect(performance.now() - begun).toBeLessThan(4000);
      reader.close();
      await sql.tidy?.(never);
      expect(await bytesOf()).toBeLessThan(10e6);
    });

    test("a file that was made without it can shrink from the next start on", async () => {
      const old = new Database(path, { create: true });
      old.run("PRAGMA journal_mode = WAL");
      old.run("CREATE TABLE other (x TEXT)");
      old.close();
      const sql = open();
      expect(await sql.query("PRAGMA auto_vacuum")).toEqual([{ auto_vacuum: 2 }]);
      expect(await sql.query("PRAGMA journal_mode")).toEqual([{ journal_mode: "wal" }]);
    });
  });

  test("recording an execution and its two changes costs no more than 0.15 ms at the median", async () => {
    const { executions, sessions, templates } = storesOn(open());
    await templates.insert(templateRecord());
    await sessions.insert(sessionRecord());
    const times: number[] = [];
    for (let i = 0; i < 600; i++) {
      const start = performance.now();
      await executions.insert(executionRecord({ id: `e${i}` }), { owner: "me", expiresAt: at(15) });
      await executions.update(`e${i}`, { status: "running", started_at: at(1), journaled: true }, ["pending"]);
      await executions.update(`e${i}`, { status: "completed", exit_code: 0, stdout: "x", last_seq: 4 }, ["running"]);
      times.push(performance.now() - start);
    }
    expect(times.toSorted((a, b) => a - b)[300]).toBeLessThan(0.15);
  });
});
