import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createConnection } from "mysql2/promise";
import { MariaDb, mariaDbMissing, Minio, minioMissing } from "../services.ts";
import { command } from "./command.ts";
import { openS3Objects } from "../../src/objects/s3.ts";
import { EXECUTABLE } from "../e2e/server.ts";

type Check = { name: string; verdict: "ok" | "weaker" | "missing"; found: string; remedy?: string };

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp("/tmp/doctor-services-");
});
afterAll(() => rm(directory, { recursive: true }));

async function checks(env: Record<string, string>): Promise<{ code: number; checks: Check[]; text: string }> {
  const all = { DATA_DIR: `${directory}/none`, ...env };
  const { code, stdout, stderr } = await command(["doctor", "--json"], { env: all });
  return { code, checks: (JSON.parse(stdout) as { checks: Check[] }).checks, text: stdout + stderr };
}

async function check(name: string, env: Record<string, string>): Promise<Check | undefined> {
  return (await checks(env)).checks.find((one) => one.name === name);
}

test("what is not configured is not looked at", async () => {
  const names = (await checks({})).checks.map(({ name }) => name);
  for (const name of ["object store", "cluster"]) expect(names).not.toContain(name);
  expect(names).toContain("clock");
});

describe("the database of one machine", () => {
  test("is ok before it is made and after, and one that is newer or damaged is named", async () => {
    const env = { DATA_DIR: `${directory}/edge` };
    expect((await check("database", env))?.found).toBe(`${directory}/edge/sandbox.db is made at the first start`);
    expect((await command(["keys", "create", "one"], { env })).code).toBe(0);
    const path = `${directory}/edge/sandbox.db`;
    const well = await check("database", env);
    expect(well?.verdict).toBe("ok");
    expect(well?.found).toMatch(/SQLite, schema [1-9]\d*, whole$/);

    const db = new Database(path);
    db.run("INSERT INTO schema_migrations VALUES (999, 'from the future', '')");
    const newer = await check("database", env);
    expect([newer?.verdict, newer?.remedy]).toEqual(["missing", "start the newer program again"]);
    expect(newer?.found).toContain("schema version 999");
    db.run("DELETE FROM schema_migrations WHERE version = 999");
    db.run("PRAGMA wal_checkpoint(TRUNCATE)");
    db.close();

    const bytes = await Bun.file(path).bytes();
    bytes.fill(0xff, 4096, 8192);
    await Bun.write(path, bytes);
    const damaged = await check("database", env);
    expect([damaged?.verdict, damaged?.remedy]).toEqual(["missing", "restore it from a backup"]);
    expect(damaged?.found).toContain("is damaged");
  }, 20_000);
});

describe.skipIf(mariaDbMissing !== null)(mariaDbMissing ?? "the database", () => {
  let server: MariaDb;
  beforeAll(async () => {
    server = await MariaDb.start();
    const admin = await createConnection(server.url("mysql"));
    await admin.query("CREATE DATABASE latin CHARACTER SET latin1");
    await admin.query("CREATE USER 'guest'@'127.0.0.1' IDENTIFIED BY 'guest'");
    await admin.end();
  }, 60_000);
  afterAll(() => server.stop());

  test("that can be used is ok, before its schema is made and after, and doctor makes none", async () => {
    const url = server.url();
    const before = await check("database", { DATABASE_URL: url });
    expect(before?.verdict).toBe("ok");
    expect(before?.found).toContain("no schema yet");
    expect(await check("database", { DATABASE_URL: url })).toEqual(before);
    expect((await command(["keys", "list"], { env: { DATABASE_URL: url } })).code).toBe(0);
    expect((await check("database", { DATABASE_URL: url }))?.found).toMatch(/MariaDB.*, schema [1-9]\d*$/);
    const password = { DATABASE_URL: server.url("sandbox", ""), DATABASE_PASSWORD: "p@ss:w/rd%" };
    expect((await check("database", password))?.verdict).toBe("ok");
    expect((await check("clock", password))?.found).toEndWith("within 5 s of that of the database");
  }, 30_000);

  test("that can't is named with its cause and what helps, without the password", async () => {
    const at = `127.0.0.1:${server.port}`;
    const wrong: [url: string, found: RegExp, remedy: RegExp][] = [
      [server.url("sandbox", "hunter2"), /refuses user sandbox or its password/, /DATABASE_PASSWORD/],
      [server.url("nowhere"), /has no database nowhere/, /^CREATE DATABASE `nowhere` CHARACTER SET utf8mb4$/],
      [server.url("latin"), /character set of latin is latin1/, /^ALTER DATABASE `latin` CHARACTER SET utf8mb4$/],
      [`mysql://guest:guest@${at}/sandbox`, /user guest may not use database sandbox/, /^GRANT ALL ON/],
      ["mysql://sandbox:hunter2@127.0.0.1:1/sandbox", /can't be reached: ECONNREFUSED/, /start the server/],
      ["mysql://sandbox:hunter2@no-such-host.invalid/sandbox", /can't be reached/, /host and port/],
    ];
    for (const [url, found, remedy] of wrong) {
      const { code, checks: all, text } = await checks({ DATABASE_URL: url });
      const said = all.find(({ name }) => name === "database");
      expect([code, said?.verdict], url).toEqual([1, "missing"]);
      expect(said?.found).toMatch(found);
      expect(said?.remedy).toMatch(remedy);
      expect(text).not.toContain("hunter2");
    }
  }, 60_000);
});

describe.skipIf(minioMissing !== null)(minioMissing ?? "the object store", () => {
  let store: Minio;
  let env: Record<string, string>;
  beforeAll(async () => {
    store = await Minio.start();
    env = {
      S3_ENDPOINT_URL: store.url,
      S3_ACCESS_KEY_ID: Minio.accessKeyId,
      S3_SECRET_ACCESS_KEY: Minio.secretAccessKey,
    };
  }, 60_000);
  afterAll(() => store.stop());

  test("is ok without the bucket, which doctor does not make, and with one that takes an object", async () => {
    const before = await check("object store", env);
    expect(before?.verdict).toBe("ok");
    expect(before?.found).toEndWith("has no bucket sandbox-workspace yet, which is made at the first start");
    expect(await check("object store", env)).toEqual(before);
    const s3 = new Bun.S3Client({
      endpoint: store.url,
      accessKeyId: Minio.accessKeyId,
      secretAccessKey: Minio.secretAccessKey,
      bucket: "sandbox-workspace",
    });
    await openS3Objects({
      endpointUrl: store.url,
      publicEndpointUrl: store.url,
      accessKeyId: Minio.accessKeyId,
      secretAccessKey: Minio.secretAccessKey,
      region: "us-east-1",
      bucket: "sandbox-workspace",
    });
    expect((await check("object store", env))?.found).toEndWith("can be read and written");
    expect((await s3.list()).contents ?? []).toEqual([]);
    expect((await check("clock", env))?.found).toEndWith("within 5 s of that of the object store");
  }, 60_000);

  test("that refuses or is away is named with its cause and what helps, without the secret", async () => {
    const wrong: [change: Record<string, string>, found: RegExp, remedy: RegExp][] = [
      [{ S3_ACCESS_KEY_ID: "nobody" }, /S3_ACCESS_KEY_ID=nobody is not known/, /S3_ACCESS_KEY_ID/],
      [{ S3_SECRET_ACCESS_KEY: "hunter2hunter2" }, /S3_SECRET_ACCESS_KEY is not the one/, /S3_SECRET_ACCESS_KEY/],
      [{ S3_ENDPOINT_URL: "http://127.0.0.1:1" }, /can't be reached/, /S3_ENDPOINT_URL/],
    ];
    for (const [change, found, remedy] of wrong) {
      const { code, checks: all, text } = await checks({ ...env, ...change });
      const said = all.find(({ name }) => name === "object store");
      expect([code, said?.verdict]).toEqual([1, "missing"]);
      expect(said?.found).toMatch(found);
      expect(said?.remedy).toMatch(remedy);
      expect(text).not.toContain("hunter2");
    }
  }, 60_000);
});

test("a clock that is apart from another's is named", async () => {
  const headers = { Date: new Date(Date.now() + 3_600_000).toUTCString() };
  const ahead = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: () => new Response(null, { status: 403, headers }),
  });
  const store = { S3_ENDPOINT_URL: ahead.url.origin, S3_ACCESS_KEY_ID: "a", S3_SECRET_ACCESS_KEY: "bbbbbbbb" };
  const said = await check("clock", store);
  expect(said?.verdict).toBe("weaker");
  expect(said?.found).toMatch(/the object store is (359\d|3600) s ahead$/);
  expect(said?.remedy).toContain("NTP");
  await ahead.stop();
});

test("AppArmor's restriction of Ubuntu 24.04 is named with what helps", async () => {
  const settings = `${directory}/kernel`;
  await Bun.write(`${settings}/osrelease`, "6.8.0-31-generic\n");
  await Bun.write(`${settings}/apparmor_restrict_unprivileged_userns`, "1\n");
  // No further user namespace can be made in there, and the kernel's settings are the given ones.
  const box = ["bwrap", "--dev-bind", "/", "/", "--unshare-user", "--disable-userns"];
  box.push("--ro-bind", settings, "/proc/sys/kernel", "--", EXECUTABLE, "doctor", "--json");
  const env = { PATH: process.env.PATH ?? "/usr/bin:/bin", DATA_DIR: `${directory}/none` };
  const child = Bun.spawn(box, { env, stdout: "pipe", stderr: "inherit" });
  const said = JSON.parse(await new Response(child.stdout).text()) as { checks: Check[] };
  expect(await child.exited).toBe(1);
  const found = said.checks.find(({ name }) => name === "user namespaces");
  expect(found?.verdict).toBe("missing");
  expect(found?.remedy).toStartWith("AppArmor restricts them, as Ubuntu 24.04 has it: give bwrap a profile");
  expect(found?.remedy).toContain("kernel.apparmor_restrict_unprivileged_userns=0");
});
