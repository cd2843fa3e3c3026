import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Keys } from "../../src/keys/keys.ts";
import { SqlKeyStore } from "../../src/stores/key-store.ts";
import type { Sql } from "../../src/stores/sql.ts";
import { openSqlite } from "../../src/stores/sqlite.ts";
import { at } from "../contracts/records.ts";
import { codeOf } from "../contracts/stores.ts";

const OPERATOR = "default";
let sql: Sql;
let now = 0;
const keysWith = (configured: { name: string; key: string }[] = []) =>
  new Keys({ store: new SqlKeyStore(sql), clock: { now: () => new Date(at(now)) }, configured });
let keys: Keys;
beforeEach(() => {
  now = 0;
  sql = openSqlite(":memory:");
  keys = keysWith();
});
afterEach(() => sql.close());

describe("a key", () => {
  test("is good while its use can't be written down", async () => {
    const made = await keys.create(OPERATOR, { name: "ci" });
    await sql.run("PRAGMA query_only = ON");
    expect(await keys.authenticate(made.key)).toEqual({ tenant: "ci", name: "ci" });
    await sql.run("PRAGMA query_only = OFF");
    expect(await keys.list(OPERATOR)).toMatchObject([{ name: "ci", last_used_at: null }]);
  });

  test("is shown once, opens its tenant, and is nowhere in the database", async () => {
    const made = await keys.create(OPERATOR, { name: "ci" });
    expect(made.key).toMatch(/^sbx_[A-Za-z0-9_-]{43}$/);
    expect(await keys.authenticate(made.key)).toEqual({ tenant: "ci", name: "ci" });
    const [listed] = await keys.list(OPERATOR);
    expect(listed).toEqual({
      name: "ci",
      tenant: "ci",
      hint: `${made.key.slice(0, 8)}…`,
      source: "stored",
      created_at: at(0),
      last_used_at: at(0),
      revoked_at: null,
    });
    const rows = JSON.stringify(await sql.query("SELECT * FROM api_keys"));
    expect(rows).not.toContain(made.key);
    expect(rows).not.toContain(made.key.slice(10, 30));
  });

  test("differs from every other", async () => {
    const made = await Promise.all(Array.from({ length: 50 }, (_, i) => keys.create(OPERATOR, { name: `k${i}` })));
    expect(new Set(made.map((one) => one.key)).size).toBe(50);
  });

  test("belongs to the tenant that was given", async () => {
    const made = await keys.create(OPERATOR, { name: "ci", tenant: "team" });
    expect(await keys.authenticate(made.key)).toEqual({ tenant: "team", name: "ci" });
  });

  test("that is wrong opens nothing", async () => {
    const { key } = await keys.create(OPERATOR, { name: "ci" });
    for (const wrong of ["", "x", key.slice(0, -1), `${key} `, `${key}x`, key.toLowerCase(), "' OR 1=1 --"])
      expect(await keys.authenticate(wrong)).toBeNull();
  });

  test("ends at once when it is revoked, and its name is free again", async () => {
    const first = await keys.create(OPERATOR, { name: "ci" });
    expect(await codeOf(keys.create(OPERATOR, { name: "ci" }))).toBe("key_exists");
    now = 5;
    await keys.revoke(OPERATOR, "ci");
    expect(await keys.authenticate(first.key)).toBeNull();
    expect((await keys.list(OPERATOR))[0]?.revoked_at).toBe(at(5));
    expect(await codeOf(keys.revoke(OPERATOR, "ci"))).toBe("key_not_found");
    const second = await keys.create(OPERATOR, { name: "ci" });
    expect(await keys.authenticate(first.key)).toBeNull();
    expect(await keys.authenticate(second.key)).toEqual({ tenant: "ci", name: "ci" });
  });

  test("notes its use once a minute", async () => {
    const { key } = await keys.create(OPERATOR, { name: "ci" });
    for (const [second, noted] of [
      [10, 10],
      [69, 10],
      [70, 70],
    ] as const) {
      now = second;
      await keys.authenticate(key);
      expect((await keys.list(OPERATOR))[0]?.last_used_at).toBe(at(noted));
    }
  });

  test("has a name that can stand in a URL and a log", async () => {
    for (const name of ["", "a b", "-x", "a/b", "x".repeat(65), "ü", "a\n"])
      expect(await codeOf(keys.create(OPERATOR, { name }))).toBe("bad_request");
    expect(await codeOf(keys.create(OPERATOR, { name: "a", tenant: "../x" }))).toBe("bad_request");
  });
});

describe("a tenant other than the operator's", () => {
  test("makes, sees and revokes its own keys alone", async () => {
    await keys.create(OPERATOR, { name: "theirs" });
    const made = await keys.create("team", { name: "second" });
    expect(made.tenant).toBe("team");
    expect(await codeOf(keys.create("team", { name: "third", tenant: "theirs" }))).toBe("bad_request");
    expect(await codeOf(keys.create("team", { name: "third", tenant: OPERATOR }))).toBe("bad_request");
    expect((await keys.list("team")).map((key) => key.name)).toEqual(["second"]);
    expect(await codeOf(keys.revoke("team", "theirs"))).toBe("key_not_found");
    await keys.revoke("team", "second");
    expect((await keys.list(OPERATOR)).map((key) => [key.name, key.revoked_at])).toEqual([
      ["second", at(0)],
      ["theirs", null],
    ]);
  });
});

describe("keys of API_KEYS", () => {
  test("open the tenant of their name and are changed where they come from", async () => {
    keys = keysWith([
      { name: "a", key: "secret-a" },
      { name: "b", key: "secret-b" },
    ]);
    expect(await keys.any()).toBe(true);
    expect(await keys.authenticate("secret-b")).toEqual({ tenant: "b", name: "b" });
    expect(await keys.authenticate("secret-c")).toBeNull();
    expect(await codeOf(keys.create(OPERATOR, { name: "a" }))).toBe("key_exists");
    expect(await codeOf(keys.revoke(OPERATOR, "a"))).toBe("bad_request");
    const listed = await keys.list(OPERATOR);
    expect(listed.map((key) => [key.name, key.source, key.created_at])).toEqual([
      ["a", "configured", null],
      ["b", "configured", null],
    ]);
    expect(JSON.stringify(listed)).not.toContain("secret");
  });
});

describe("the first key", () => {
  test("is made when there is none at all, once, for the operator", async () => {
    const made = await Promise.all([keys.makeFirst(), keys.makeFirst()]);
    const first = made.find((key) => key !== null) ?? "";
    expect(made.filter((key) => key !== null)).toHaveLength(1);
    expect((await keys.authenticate(first))?.tenant).toBe(OPERATOR);
    expect(await keys.makeFirst()).toBeNull();
  });

  test("is not made beside a key of API_KEYS", async () => {
    expect(await keysWith([{ name: "a", key: "b" }]).makeFirst()).toBeNull();
    expect(await keys.list(OPERATOR)).toEqual([]);
  });

  test("is made again when every key was revoked", async () => {
    const first = await keys.makeFirst();
    await keys.revoke(OPERATOR, "first");
    expect(await keys.any()).toBe(false);
    const second = await keys.makeFirst();
    expect(second).not.toBe(first);
    expect(await keys.authenticate(first ?? "")).toBeNull();
    expect((await keys.authenticate(second ?? ""))?.tenant).toBe(OPERATOR);
  });
});
