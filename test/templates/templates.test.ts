import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { AppError } from "../../src/errors.ts";
import { AllowList } from "../../src/executor/egress/allow-list.ts";
import { SqlSessionStore } from "../../src/stores/session-store.ts";
import type { Sql } from "../../src/stores/sql.ts";
import { openSqlite } from "../../src/stores/sqlite.ts";
import { SqlTemplateStore } from "../../src/stores/template-store.ts";
import { Templates } from "../../src/templates/templates.ts";
import { at, sessionRecord } from "../contracts/records.ts";
import { codeOf } from "../contracts/stores.ts";

let sql: Sql;
let templates: Templates;
let sessions: SqlSessionStore;
let now = 0;
beforeEach(() => {
  now = 0;
  sql = openSqlite(":memory:");
  sessions = new SqlSessionStore(sql);
  const checkNetwork = (rules: readonly string[]): void => void new AllowList(rules);
  templates = new Templates(new SqlTemplateStore(sql), sessions, { now: () => new Date(at(now)) }, checkNetwork);
});
afterEach(() => sql.close());

const input = { id: "t", name: "T", image_url: "image:latest", runtime_type: "python3.11" as const };

describe("create", () => {
  test("fills in the defaults", async () => {
    expect(await templates.create(input)).toEqual({
      ...input,
      default_cpu_cores: 0.5,
      default_memory_mb: 512,
      default_disk_mb: 1024,
      default_timeout: null,
      default_env_vars: {},
      warm_pool_size: 0,
      preload_modules: [],
      network: [],
      is_active: true,
      created_at: at(0),
      updated_at: at(0),
    });
    expect(await templates.get("t")).toEqual(
      await templates.create({ ...input, id: "t2", name: "T2" }).then((made) => ({ ...made, id: "t", name: "T" })),
    );
  });

  test("keeps what was sent, zero and empty too", async () => {
    const sent = {
      ...input,
      default_cpu_cores: 2.5,
      default_timeout: 60,
      default_env_vars: { A: "" },
      warm_pool_size: 2,
      preload_modules: ["json.tool"],
      network: { allow: ["pypi.org"] },
      is_active: false,
    };
    const kept = { ...sent, network: ["pypi.org"] };
    expect(await templates.create(sent)).toMatchObject(kept);
    expect(await templates.get("t")).toMatchObject(kept);
  });

  test("refuses a taken id or name, and what no session may have", async () => {
    await templates.create(input);
    expect(await codeOf(templates.create({ ...input, name: "other" }))).toBe("template_exists");
    expect(await codeOf(templates.create({ ...input, id: "other" }))).toBe("template_exists");
    const env = { LD_PRELOAD: "/x.so" };
    expect(await codeOf(templates.create({ ...input, id: "x", name: "X", default_env_vars: env }))).toBe(
      "invalid_environment",
    );
    expect(await codeOf(templates.update("t", { default_env_vars: env }))).toBe("invalid_environment");
    const network = { allow: ["http://x/"] };
    expect(await codeOf(templates.create({ ...input, id: "x", name: "X", network }))).toBe("bad_request");
    expect(await codeOf(templates.update("t", { network }))).toBe("bad_request");
  });
});

describe("update", () => {
  test("changes what is given and never id, runtime_type or created_at", async () => {
    const before = await templates.create(input);
    now = 9;
    const change = {
      name: "New",
      default_memory_mb: 1024,
      id: "x",
      runtime_type: "bun",
      created_at: "x",
      default_disk_mb: undefined,
    };
    const after = await templates.update("t", change);
    expect(after).toEqual({ ...before, name: "New", default_memory_mb: 1024, updated_at: at(9) });
    expect(await templates.get("t")).toEqual(after);
  });

  test("two changes of different fields at once both hold", async () => {
    await templates.create(input);
    await Promise.all([
      templates.update("t", { default_memory_mb: 1024 }),
      templates.update("t", { default_disk_mb: 2048 }),
    ]);
    expect(await templates.get("t")).toMatchObject({ default_memory_mb: 1024, default_disk_mb: 2048 });
  });

  test("without a field changes nothing", async () => {
    const before = await templates.create(input);
    now = 9;
    expect(await templates.update("t", {})).toEqual(before);
  });

  test("an unknown template is not found", async () => {
    for (const work of [
      templates.get("x"),
      templates.update("x", { name: "y" }),
      templates.update("x", {}),
      templates.delete("x"),
    ])
      expect(await codeOf(work)).toBe("template_not_found");
  });
});

test("delete is refused while a live session uses it, with their number", async () => {
  await templates.create(input);
  await sessions.insert(sessionRecord({ id: "a", status: "creating" }));
  await sessions.insert(sessionRecord({ id: "b" }));
  const error = await templates.delete("t").catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(AppError);
  expect(error).toMatchObject({
    code: "template_in_use",
    status: 409,
    message: expect.stringContaining("2 live sessions"),
  });
  await sessions.update("a", { status: "failed" });
  await sessions.update("b", { status: "terminated" });
  await templates.delete("t");
  expect(await templates.list()).toEqual([]);
});

describe("seed", () => {
  test("makes the first two once; what was deleted or changed stays so", async () => {
    await templates.seed();
    expect((await templates.list()).map((one) => [one.id, one.image_url, one.runtime_type])).toEqual([
      ["nodejs-basic", "sandbox-template-nodejs-basic:latest", "nodejs20"],
      ["python-basic", "sandbox-template-python-basic:latest", "python3.11"],
    ]);
    await templates.delete("nodejs-basic");
    await templates.update("python-basic", { default_memory_mb: 300 });
    await templates.seed();
    expect((await templates.list()).map((one) => [one.id, one.default_memory_mb])).toEqual([["python-basic", 300]]);
  });

  test("by several processes at once makes two", async () => {
    await Promise.all([templates.seed(), templates.seed(), templates.seed()]);
    expect(await templates.list()).toHaveLength(2);
  });
});
