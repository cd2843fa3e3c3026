import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { keysCommand } from "../../src/cli/keys.ts";
import { systemClock } from "../../src/clock.ts";
import { Keys } from "../../src/keys/keys.ts";
import { SqlKeyStore } from "../../src/stores/key-store.ts";
import { openSqlite } from "../../src/stores/sqlite.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp("/tmp/keys-command-");
});
afterEach(() => rm(directory, { recursive: true }));

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ["", ""];
  const io = {
    env: { DATA_DIR: join(directory, "data") },
    out: (text: string) => void (out += text),
    err: (text: string) => void (err += text),
  };
  return { code: await keysCommand(argv, io), out, err };
}

test("a key made by the command opens a server's records, until it is revoked", async () => {
  const { code, out } = await run("create", "ci", "--tenant", "team");
  expect(code).toBe(0);
  const sql = openSqlite(join(directory, "data/sandbox.db"));
  const keys = new Keys({ store: new SqlKeyStore(sql), clock: systemClock, configured: [] });
  expect(await keys.authenticate(out.trim())).toEqual({ tenant: "team", name: "ci" });
  expect((await run("list")).out).toMatch(/^ci +team +sbx_\S+ +valid /m);
  await run("create", "other");
  expect((await run("revoke", "other")).err).toBe("key other is revoked\n");
  expect(await run("revoke", "ci")).toMatchObject({ code: 0, err: expect.stringContaining("the API is open again") });
  expect(await keys.authenticate(out.trim())).toBeNull();
  expect((await run("list")).out).toMatch(/^ci +team +sbx_\S+ +revoked /m);
  await sql.close();
});

test("the key is all that stands on the output, and is not listed", async () => {
  const { out } = await run("create", "ci", "--tenant=team");
  expect(out).toMatch(/^sbx_[A-Za-z0-9_-]{43}\n$/);
  expect((await run("list")).out).not.toContain(out.trim());
});

test("what can't be done is one line and exit code 1; wrong usage is 2", async () => {
  await run("create", "ci");
  const wrong: [number, string[]][] = [
    [1, ["create", "ci"]],
    [1, ["create", "a/b"]],
    [1, ["revoke", "nope"]],
    [2, ["create"]],
    [2, ["create", "x", "--tenant"]],
    [2, ["create", "x", "y"]],
    [2, ["revoke", "ci", "--tenant", "x"]],
    [2, ["list", "all"]],
    [2, ["frobnicate"]],
    [2, ["list", "--port=x"]],
    [2, ["list", "--database-url=mysql://h/d"]],
  ];
  for (const [expected, argv] of wrong) {
    const { code, out, err } = await run(...argv);
    expect([code, out], argv.join(" ")).toEqual([expected, ""]);
    expect(err).toMatch(/^sandbox keys: [^\n]+\n$/);
  }
});

test("help is on the output; no command at all is wrong usage", async () => {
  expect(await run("--help")).toMatchObject({
    code: 0,
    err: "",
    out: expect.stringContaining("sandbox keys create NAME"),
  });
  expect(await run()).toMatchObject({ code: 2, out: "", err: expect.stringContaining("sandbox keys create NAME") });
});
