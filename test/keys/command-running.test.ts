import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { command } from "../cli/command.ts";
import { Client } from "../e2e/client.ts";
import { serviceEnv, startServer, type Server } from "../e2e/server.ts";
import { MariaDb, mariaDbMissing } from "../services.ts";

/** What a call with this key is answered. */
const answered = async (server: Server, key: string): Promise<number> =>
  (await new Client(server.url, { "X-API-Key": key }).get("/sessions")).status;

/** Makes, lists and revokes a key by the command while the service runs on the same records. */
async function expectKeysToWork(server: Server, env: Record<string, string>): Promise<void> {
  const keys = (...argv: string[]) => command(["keys", ...argv], { env });
  expect(await answered(server, "sbx_nonsense")).toBe(401);
  const made = await keys("create", "ci", "--tenant", "team");
  expect([made.code, made.lines.length]).toEqual([0, 1]);
  const key = made.stdout.trim();
  expect(await answered(server, key)).toBe(200);
  const listed = await keys("list");
  expect(listed.stdout).toMatch(/^ci +team +sbx_\S+ +valid /m);
  expect(listed.stdout).not.toContain(key);
  expect(await keys("create", "ci")).toMatchObject({ code: 1, stdout: "" });
  const caller = new Client(server.url, { "X-API-Key": key });
  const stream = caller.events(await caller.submit(await caller.session(), "import time; time.sleep(60)"));
  await stream.next();
  expect((await keys("revoke", "ci")).code).toBe(0);
  expect(await answered(server, key)).toBe(401);
  // Within seconds a stream ends that was open, although another process revoked the key.
  const rest = await Array.fromAsync(stream);
  expect(rest.map(({ type }) => type)).not.toContain("end");
}

test("the command works beside the service that holds the data directory", async () => {
  const server = await startServer({ env: { API_KEYS: "first:0123456789abcdef0123456789abcdef" } });
  try {
    await expectKeysToWork(server, serviceEnv(server.dataDir));
  } finally {
    await server.stop();
  }
});

describe.skipIf(mariaDbMissing !== null)(mariaDbMissing ?? "keys in MariaDB", () => {
  let database: MariaDb;
  let directory: string;
  beforeAll(async () => {
    database = await MariaDb.start();
    directory = await mkdtemp("/tmp/keys-mariadb-");
  }, 60_000);
  afterAll(async () => {
    await database.stop();
    await rm(directory, { recursive: true });
  });

  test("the command makes the schema of an empty database, and its keys open the service", async () => {
    const records = { DATABASE_URL: database.url("sandbox", ""), DATABASE_PASSWORD: "p@ss:w/rd%" };
    const env = { ...records, DATA_DIR: `${directory}/none` };
    const made = await command(["keys", "create", "before"], { env });
    expect(made.code).toBe(0);
    const server = await startServer({ env: records });
    try {
      expect(await answered(server, made.stdout.trim())).toBe(200);
      await expectKeysToWork(server, env);
    } finally {
      await server.stop();
    }
    // Nothing of it is kept on this machine.
    expect(await Bun.file(`${directory}/none/lock`).exists()).toBe(false);
  }, 60_000);

  test("what is wrong with the database is one line that holds no password, and exit code 2", async () => {
    const wrong: [string, RegExp][] = [
      [database.url("sandbox", "hunter2"), /refuses user sandbox or its password/],
      [database.url("nowhere"), /has no database nowhere: CREATE DATABASE/],
      ["mysql://sandbox:hunter2@127.0.0.1:1/sandbox", /can't be reached: ECONNREFUSED/],
    ];
    for (const [url, said] of wrong) {
      const { code, stdout, stderr, lines } = await command(["keys", "list"], { env: { DATABASE_URL: url } });
      expect([code, stdout, lines.length]).toEqual([2, "", 1]);
      expect(lines[0]).toMatch(said);
      expect(stderr).not.toContain("hunter2");
    }
  }, 30_000);
});
