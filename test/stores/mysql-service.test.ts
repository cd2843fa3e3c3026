import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Client, type Json } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { MariaDb, mariaDbMissing, Minio, minioMissing } from "../services.ts";

const missing = mariaDbMissing ?? minioMissing;

describe.skipIf(missing !== null)(missing ?? "the service on MariaDB and MinIO", () => {
  let database: MariaDb;
  let store: Minio;
  let server: Server;
  let client: Client;
  beforeAll(async () => {
    [database, store] = await Promise.all([MariaDb.start(), Minio.start()]);
    server = await startServer({
      env: {
        DATABASE_URL: database.url("sandbox", "").replace("mysql:", "mysql+aiomysql:"),
        DATABASE_PASSWORD: "p@ss:w/rd%",
        S3_ENDPOINT_URL: store.url,
        S3_ACCESS_KEY_ID: Minio.accessKeyId,
        S3_SECRET_ACCESS_KEY: Minio.secretAccessKey,
      },
    });
    client = new Client(server.url);
  }, 60_000);
  afterAll(async () => {
    await server.stop();
    await Promise.all([database.stop(), store.stop()]);
  }, 60_000);

  test("code runs and is recorded", async () => {
    const session = await client.session();
    expect(await client.run(session, "print('hello')")).toMatchObject({ status: "completed", stdout: "hello\n" });
    expect((await client.get(`/sessions/${session}/executions`)).body["total"]).toBe(1);
  }, 60_000);

  test("a database that is gone for a while costs answers, not what runs", async () => {
    const session = await client.session();
    const code = "import time\nfor i in range(30):\n  print(i, flush=True)\n  time.sleep(0.1)";
    const execution = await client.submit(session, code);
    const stream = await client.raw("GET", `/executions/${execution}/events`, undefined, {
      Accept: "text/event-stream",
    });
    const reader = stream.body?.getReader();
    await reader?.read();
    // Who asked before is known also without the database that has the keys.
    expect((await client.get("/health/detailed")).body["status"]).toBe("healthy");
    expect((await fetch(`${server.url}/metrics`)).status).toBe(200);
    await database.kill();

    const start = performance.now();
    const { status, body, headers } = await client.get(`/executions/${execution}`);
    expect([status, body["code"]]).toEqual([503, "store_unavailable"]);
    expect(headers.get("retry-after")).toBe("1");
    expect((await client.post("/sessions", { template_id: "python-basic" })).status).toBe(503);
    expect(performance.now() - start).toBeLessThan(2000);
    expect((await client.get("/health")).status).toBe(200);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    const health = await client.get("/health/detailed");
    expect([health.status, health.body["status"]]).toEqual([503, "unhealthy"]);
    const failing = (health.body["checks"] as Json[]).filter((check) => check["ok"] !== true);
    expect(failing).toEqual([{ name: "database", ok: false, found: expect.any(String) }]);
    const figures = await (await fetch(`${server.url}/metrics`)).text();
    expect(figures).toMatch(/^sandbox_store_errors_total\{store="database"\} [1-9]/m);
    expect(figures).not.toMatch(/^sandbox_sessions_active /m);
    expect(figures).toMatch(/^sandbox_sessions_total [1-9]/m);
    // The program comes to its end meanwhile, as its journal tells: the service can't say so.
    const journal = join(server.dataDir, "journals", session, `${execution}.journal`);
    while (!/^\d+ end /m.test(await readFile(journal, "utf8"))) await Bun.sleep(50);
    await database.start();

    const answered = async () => (await client.get(`/executions/${execution}?wait=1`)).body;
    let ended = await answered();
    for (let i = 0; i < 200 && !["completed", "crashed", "failed"].includes(String(ended["status"])); i++) {
      await Bun.sleep(100);
      ended = await answered();
    }
    const stdout = Array.from({ length: 30 }, (_, i) => `${i}\n`).join("");
    expect(ended).toMatchObject({ status: "completed", exit_code: 0, stdout });
    expect((await client.run(session, "print('again')"))["stdout"]).toBe("again\n");
    await reader?.cancel();
  }, 60_000);
});
