import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { openMysql } from "../../src/stores/mysql.ts";
import type { Sql } from "../../src/stores/sql.ts";
import { at, executionRecord, sessionRecord, templateRecord } from "../contracts/records.ts";
import { storesOn } from "../contracts/sql.ts";
import { codeOf } from "../contracts/stores.ts";
import { MariaDb, mariaDbMissing } from "../services.ts";
import { CuttingProxy } from "./cutting-proxy.ts";

const lease = { owner: "me", expiresAt: at(15) };

describe.skipIf(mariaDbMissing !== null)(mariaDbMissing ?? "mariadb that comes and goes", () => {
  let server: MariaDb;
  let proxy: CuttingProxy;
  let direct: Sql;
  let sql: Sql;
  beforeAll(async () => {
    server = await MariaDb.start();
    proxy = new CuttingProxy(server.port);
    direct = await openMysql(server.url());
    sql = await openMysql(server.url().replace(`:${server.port}/`, `:${proxy.port}/`));
  });
  afterAll(async () => {
    await Promise.all([direct.close(), sql.close()]);
    proxy.stop();
    await server.stop();
  });
  beforeEach(async () => {
    for (const table of ["sessions", "templates"]) await direct.run(`DELETE FROM ${table}`);
    await storesOn(direct).templates.insert(templateRecord());
    await storesOn(direct).sessions.insert(sessionRecord());
    proxy.cuts = 0;
  });

  const countOf = async (id: string) => {
    const [row] = await direct.query("SELECT COUNT(*) AS count FROM executions WHERE id = ?", [id]);
    return Number(row?.["count"]);
  };
  const endConnections = async () => {
    const others = "SELECT id FROM information_schema.processlist WHERE db = 'sandbox' AND id <> CONNECTION_ID()";
    for (const { id } of await direct.query(others)) await direct.run(`KILL ${id}`).catch(() => {});
  };

  test("a read whose connection is lost is asked again", async () => {
    proxy.cutNext("sessions", "after");
    expect(await storesOn(sql).sessions.get("s")).toEqual(sessionRecord());
    expect(proxy.cuts).toBe(1);
  });

  test("a transaction that is cut before its commit is carried out whole, once", async () => {
    let count = 0;
    for (const when of ["before", "after"] as const) {
      for (const part of ["begin", "main", "input"] as const) {
        const [id, code] = [`id-${part}-${when}`, `code-${part}-${when}`];
        proxy.cutNext({ begin: "START TRANSACTION", main: id, input: code }[part], when);
        await storesOn(sql).executions.insert(executionRecord({ id, code }), lease);
        expect((await storesOn(direct).executions.get(id))?.code).toBe(code);
        expect(proxy.cuts).toBe(++count);
      }
    }
  });

  test("one whose commit got no answer is not asked again", async () => {
    const { executions } = storesOn(sql);
    proxy.cutNext("COMMIT", "after");
    expect(await codeOf(executions.insert(executionRecord({ id: "after" }), lease))).toBe("store_unavailable");
    expect(await countOf("after")).toBe(1);
    proxy.cutNext("COMMIT", "before");
    expect(await codeOf(executions.insert(executionRecord({ id: "before" }), lease))).toBe("store_unavailable");
    expect(await countOf("before")).toBe(0);
    expect(proxy.cuts).toBe(2);
  });

  test("a single write that got no answer is not repeated", async () => {
    const add = "UPDATE templates SET warm_pool_size = warm_pool_size + ? WHERE id = ?";
    expect(await sql.run(add, [1, "t"])).toBe(1);
    proxy.cutNext("\u0001t", "after");
    expect(await codeOf(sql.run(add, [1, "t"]))).toBe("store_unavailable");
    expect((await storesOn(direct).templates.get("t"))?.warm_pool_size).toBe(2);
    expect(proxy.cuts).toBe(1);
  });

  test("connections that the server has ended meanwhile are replaced before they are used", async () => {
    await Promise.all([1, 2, 3].map(() => sql.query("SELECT SLEEP(0.01) AS slept")));
    await endConnections();
    await Bun.sleep(260);
    expect(await storesOn(sql).sessions.update("s", { error_message: "x" })).toBe(true);
  });

  test("a database that is killed is missed quickly, and used again when it is back, with all that it acknowledged", async () => {
    const { executions } = storesOn(sql);
    const acknowledged: string[] = [];
    const failures: { code: string; tookMs: number }[] = [];
    let stop = false;
    const writer = async (name: string) => {
      for (let i = 0; !stop; i++) {
        const id = `${name}-${i}`;
        const start = performance.now();
        const code = await codeOf(executions.insert(executionRecord({ id }), lease));
        if (code === "none") acknowledged.push(id);
        else failures.push({ code, tookMs: performance.now() - start });
        if (code !== "none") await Bun.sleep(5);
      }
    };
    const writers = ["a", "b", "c", "d"].map(writer);
    while (acknowledged.length < 50) await Bun.sleep(5);
    await server.kill();
    const before = acknowledged.length;
    while (failures.length < 20) await Bun.sleep(5);
    expect(await codeOf(executions.get("a-0"))).toBe("store_unavailable");
    await server.start();
    const back = performance.now();
    while (acknowledged.length === before) await Bun.sleep(5);
    expect(performance.now() - back).toBeLessThan(1000);
    stop = true;
    await Promise.all(writers);
    expect(new Set(failures.map((one) => one.code))).toEqual(new Set(["store_unavailable"]));
    expect(Math.max(...failures.map((one) => one.tookMs))).toBeLessThan(1000);
    const kept = new Set((await direct.query("SELECT id FROM executions")).map((row) => row["id"]));
    expect(acknowledged.filter((id) => !kept.has(id))).toEqual([]);
  });

  test("one that hangs is given up within a few seconds, and then at once", async () => {
    await sql.query("SELECT 1 AS one");
    await Bun.sleep(260);
    await server.pause();
    const timed = async () => {
      const start = performance.now();
      expect(await codeOf(sql.query("SELECT 1 AS one"))).toBe("store_unavailable");
      return performance.now() - start;
    };
    expect(await timed()).toBeLessThan(5000);
    expect(await timed()).toBeLessThan(100);
    server.resume();
    while ((await codeOf(sql.query("SELECT 1 AS one"))) !== "none") await Bun.sleep(20);
  });
});
