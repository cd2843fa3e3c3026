import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createConnection } from "mysql2/promise";
import { join } from "node:path";
import { ConfigError } from "../../src/config.ts";
import { rawJson } from "../../src/json-text.ts";
import type { Sql } from "../../src/stores/sql.ts";
import { MYSQL_MIGRATIONS } from "../../src/stores/migrations/mysql.ts";
import { openMysql } from "../../src/stores/mysql.ts";
import { codeOf, storesContract } from "../contracts/stores.ts";
import { at, executionRecord, sessionRecord, templateRecord } from "../contracts/records.ts";
import { sqlContract, storesOn } from "../contracts/sql.ts";
import { MariaDb, mariaDbMissing } from "../services.ts";

describe.skipIf(mariaDbMissing !== null)(mariaDbMissing ?? "mariadb", () => {
  let server: MariaDb;
  let shared: Sql;
  const opened: Sql[] = [];
  beforeAll(async () => {
    server = await MariaDb.start();
    shared = await openMysql(server.url());
  });
  afterAll(async () => {
    for (const sql of [shared, ...opened]) await sql.close();
    await server.stop();
  });

  const admin = async (...statements: string[]) => {
    const connection = await createConnection(server.url("mysql"));
    for (const statement of statements) await connection.query(statement);
    await connection.end();
  };
  const open = async (database: string, options: Parameters<typeof openMysql>[1] = {}): Promise<Sql> => {
    const sql = await openMysql(server.url(database), options);
    opened.push(sql);
    return sql;
  };
  const emptied = async (): Promise<Sql> => {
    for (const table of ["sessions", "templates", "api_keys", "upkeep", "warm_pods"])
      await shared.run(`DELETE FROM ${table}`);
    return shared;
  };
  /** The line that a start with this URL ends with. */
  const refusal = async (url: string, options: Parameters<typeof openMysql>[1] = {}): Promise<string> => {
    const error = await openMysql(url, { waitMs: 0, ...options }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ConfigError);
    const { message } = error as ConfigError;
    expect(message).toStartWith("DATABASE_URL");
    expect(message).not.toContain("\n");
    expect(message).not.toContain("p@ss");
    return message;
  };

  sqlContract("mariadb", async () => ({ sql: await emptied(), close: async () => {} }));
  storesContract("mariadb", async () => ({ ...storesOn(await emptied()), close: async () => {} }));

  describe("schema", () => {
    test("many replicas that start at once bring it up to date together", async () => {
      await admin("CREATE DATABASE many CHARACTER SET utf8mb4");
      const replicas = await Promise.all(Array.from({ length: 6 }, () => open("many")));
      const [first, last] = [replicas[0], replicas.at(-1)] as [Sql, Sql];
      expect(await first.query("SELECT version, name FROM schema_migrations")).toEqual(
        MYSQL_MIGRATIONS.map(({ version, name }) => ({ version, name })),
      );
      await storesOn(first).templates.insert(templateRecord());
      expect(await storesOn(last).templates.get("t")).toEqual(templateRecord());
    });

    test("a start that was cut off half way is taken up by the next", async () => {
      await admin("CREATE DATABASE half CHARACTER SET utf8mb4");
      const whole = await open("half");
      await whole.run("DROP TABLE execution_outputs");
      await whole.run("DROP TABLE api_keys");
      await whole.run("DELETE FROM schema_migrations");
      const again = await open("half");
      expect(await storesOn(again).keys.list()).toEqual([]);
      expect(await again.query("SELECT version FROM schema_migrations")).toEqual(
        MYSQL_MIGRATIONS.map(({ version }) => ({ version })),
      );
    });

    test("opening again changes nothing, and waits for nobody's lock", async () => {
      await storesOn(await emptied()).templates.insert(templateRecord());
      const holder = await createConnection(server.url());
      await holder.query("SELECT GET_LOCK(CONCAT('sandbox-schema-', MD5(DATABASE())), 1)");
      expect(await storesOn(await open("sandbox")).templates.get("t")).toEqual(templateRecord());
      await holder.end();
    });

    test("a database of a newer program is refused", async () => {
      await admin("CREATE DATABASE newer CHARACTER SET utf8mb4");
      await (await open("newer")).run("INSERT INTO schema_migrations VALUES (999, 'later', ?)", [at(0)]);
      expect(await refusal(server.url("newer"))).toContain("version 999");
    });
  });

  describe("what the operator must change", () => {
    test("a wrong password", async () => {
      const line = await refusal(server.url("sandbox", "wrong"));
      expect(line).toContain("refuses user sandbox or its password");
      expect(line).not.toContain("wrong");
    });

    test("a missing database", async () => {
      expect(await refusal(server.url("missing"))).toContain("CREATE DATABASE `missing` CHARACTER SET utf8mb4");
    });

    test("a wrong charset: of the database, of the URL, of a table", async () => {
      await admin("CREATE DATABASE latin CHARACTER SET latin1", "CREATE DATABASE restored CHARACTER SET utf8mb4");
      expect(await refusal(server.url("latin"))).toContain("ALTER DATABASE `latin` CHARACTER SET utf8mb4");
      expect(await refusal(`${server.url()}?charset=latin1`)).toContain("charset=latin1 is not valid");
      await (await open("restored")).run("ALTER TABLE api_keys CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
      expect(await refusal(server.url("restored"))).toContain("ALTER TABLE api_keys CONVERT TO CHARACTER SET utf8mb4");
    });

    test("a user without rights", async () => {
      await admin("CREATE USER weak@'127.0.0.1' IDENTIFIED BY 'pw'", "CREATE DATABASE closed CHARACTER SET utf8mb4");
      const url = `mysql://weak:pw@127.0.0.1:${server.port}/closed`;
      expect(await refusal(url)).toContain("GRANT ALL ON `closed`.*");
      await admin("GRANT SELECT ON closed.* TO weak@'127.0.0.1'");
      expect(await refusal(url)).toContain("GRANT ALL ON `closed`.*");
      await open("closed");
      await admin("GRANT INSERT, UPDATE, DELETE ON closed.* TO weak@'127.0.0.1'");
      const sql = await openMysql(url);
      opened.push(sql);
      await storesOn(sql).templates.insert(templateRecord());
    });

    test("a server that takes no values of the size that is needed", async () => {
      expect(await refusal(server.url(), { largestValueBytes: 20_000_000 })).toContain(
        "max_allowed_packet is 16777216",
      );
    });

    test("a server that is not there, after the wait for it", async () => {
      const told: string[] = [];
      const options = { waitMs: 600, onWaiting: (reason: string) => void told.push(reason) };
      const line = await refusal("mysql://sandbox:p%40ss@127.0.0.1:1/sandbox", options);
      expect(line).toBe("DATABASE_URL=mysql://sandbox:***@127.0.0.1:1/sandbox can't be reached: ECONNREFUSED");
      expect(told).toHaveLength(1);
    });

    test("a URL with an unknown parameter, without a user, with a bad escape", async () => {
      expect(await refusal(`${server.url()}?autocommit=true`)).toContain("allowed are charset=utf8mb4");
      expect(await refusal("mysql://127.0.0.1/sandbox")).toContain("names no user");
      expect(await refusal("mysql://u:%zz@127.0.0.1/sandbox")).toContain("written %25");
    });
  });

  test("a unix socket will do, and the usual charset", async () => {
    const sql = await openMysql(`mysql://root@localhost/sandbox?unix_socket=${server.socket}&charset=utf8mb4`);
    opened.push(sql);
    expect(await sql.query("SELECT CURRENT_USER() AS user")).toEqual([{ user: "root@localhost" }]);
  });

  test("instants are UTC and texts compare by bytes, whatever the server's defaults are", async () => {
    await admin("SET GLOBAL time_zone = '+09:00'", "SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'");
    const sql = await open("sandbox");
    const [row] = await sql.query("SELECT TIMESTAMPDIFF(MINUTE, UTC_TIMESTAMP(), NOW()) AS ahead, @@sql_mode AS mode");
    expect(row).toEqual({ ahead: 0, mode: "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION" });
    expect(await sql.query("SELECT 'a' = 'A' AS letters, 'a' = 'a ' AS spaces")).toEqual([{ letters: 0, spaces: 0 }]);
  });

  test("two transactions that lock each other out are both carried out", async () => {
    const { templates } = storesOn(await emptied());
    await templates.insert(templateRecord({ id: "a", name: "a" }));
    await templates.insert(templateRecord({ id: "b", name: "b" }));
    const add = (id: string) => ({
      sql: "UPDATE templates SET warm_pool_size = warm_pool_size + 1 WHERE id = ?",
      values: [id],
    });
    const orders = [
      [add("a"), add("b")],
      [add("b"), add("a")],
    ];
    const met = await Promise.all(Array.from({ length: 60 }, (_, i) => shared.batch(orders[i % 2] ?? [])));
    expect(met.every((count) => count === 1)).toBe(true);
    expect((await templates.list()).map((one) => one.warm_pool_size)).toEqual([60, 60]);
  });

  test("many callers share a few connections", async () => {
    await admin("CREATE DATABASE bounded CHARACTER SET utf8mb4");
    const sql = await open("bounded");
    await Promise.all(Array.from({ length: 300 }, () => sql.query("SELECT SLEEP(0.005) AS slept")));
    const [row] = await sql.query("SELECT COUNT(*) AS count FROM information_schema.processlist WHERE db = 'bounded'");
    expect(row).toEqual({ count: 10 });
  });

  describe("sizes", () => {
    const lease = { owner: "me", expiresAt: at(15) };
    const stores = async () => {
      const { templates, sessions, executions } = storesOn(await emptied());
      await templates.insert(templateRecord());
      await sessions.insert(sessionRecord());
      return executions;
    };

    test("output that the server can't take in one piece is cut and says so", async () => {
      const executions = await stores();
      await executions.insert(executionRecord(), lease);
      const stdout = "\u{fffd}".repeat(10_000_000);
      const end = {
        status: "completed",
        stdout,
        stderr: "e".repeat(10_000_000),
        return_value: rawJson("r".repeat(9_000_000)),
      };
      expect(await executions.update("e", { ...end, status: "completed" }, ["pending"])).toBe(true);
      const found = await executions.get("e");
      expect(found).toMatchObject({ status: "completed", stdout_truncated: true, stderr_truncated: false });
      expect(found?.stdout.length).toBeGreaterThan(5_000_000);
      expect(stdout.startsWith(found?.stdout ?? "x")).toBe(true);
      expect(found?.stderr === end.stderr && found.return_value === end.return_value).toBe(true);
    });

    test("a body as large as one may be is taken, and a value that is too large is refused", async () => {
      const executions = await stores();
      const large = {
        code: "c".repeat(1_000_000),
        event: rawJson("e".repeat(7_000_000)),
        stdin: "ü".repeat(3_900_000),
      };
      await executions.insert(executionRecord({ id: "large", ...large }), lease);
      const found = await executions.get("large");
      expect(found?.code === large.code && found.event === large.event && found.stdin === large.stdin).toBe(true);
      const huge = executionRecord({ id: "huge", stdin: "x".repeat(17_000_000) });
      expect(await codeOf(executions.insert(huge, lease))).toBe("body_too_large");
      expect(await executions.get("huge")).toBeNull();
    });
  });

  test("recording an execution and its two changes takes under 5 ms at the median", async () => {
    const { executions, sessions, templates } = storesOn(await emptied());
    await templates.insert(templateRecord());
    await sessions.insert(sessionRecord());
    const times: number[] = [];
    for (let i = 0; i < 100; i++) {
      const start = performance.now();
      await executions.insert(executionRecord({ id: `e${i}` }), { owner: "me", expiresAt: at(15) });
      await executions.update(`e${i}`, { status: "running", started_at: at(1), journaled: true }, ["pending"]);
      await executions.update(`e${i}`, { status: "completed", exit_code: 0, stdout: "x", last_seq: 4 }, ["running"]);
      times.push(performance.now() - start);
    }
    expect(times.toSorted((a, b) => a - b)[50]).toBeLessThan(5);
  });
});

test("the client library is loaded only when a server is opened", async () => {
  const program = `
    await import(${JSON.stringify(join(import.meta.dir, "../../src/stores/mysql.ts"))});
    const loaded = () => Object.keys(require.cache).some((path) => path.includes("/mysql2/"));
    const before = loaded();
    await import("mysql2");
    console.log(before, loaded());`;
  const run = Bun.spawn([process.execPath, "-e", program], { cwd: join(import.meta.dir, "../.."), stdout: "pipe" });
  expect((await new Response(run.stdout).text()).trim()).toBe("false true");
});
