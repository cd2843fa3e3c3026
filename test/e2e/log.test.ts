import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { MariaDb, mariaDbMissing, Minio, minioMissing } from "../services.ts";
import { Client, type Json } from "./client.ts";
import { endExecutor, newDataDir, startServer, type Server } from "./server.ts";

/** What must stand in no log, each in a form that no escaping changes. */
const SECRETS = {
  apiKey: "MarkApiKey0123456789abcdef0123456789",
  wrongKey: "MarkWrongKey",
  query: "MarkQuery",
  sessionVariable: "MarkSessionVariable",
  executionVariable: "MarkExecutionVariable",
  serviceVariable: "MarkServiceVariable",
  code: "MarkCode",
  output: "MarkOutput",
  errorOutput: "MarkErrorOutput",
  exception: "MarkException",
  result: "MarkResult",
  event: "MarkEvent",
  stdin: "MarkStdin",
  file: "MarkFile",
  malformed: "MarkMalformed",
  invalid: "MarkInvalid",
  indexPassword: "MarkIndexPassword",
  databasePassword: "MarkDatabasePassword",
  storeSecret: "MarkStoreSecret",
} as const;

/** Every call in which a caller gives the service something of its own, most of them with failures. */
async function useEverything(client: Client): Promise<string[]> {
  const s = SECRETS;
  const session = await client.session({ env_vars: { TOKEN: s.sessionVariable }, memory: "64Mi" });
  const given = { env_vars: { MORE: s.executionVariable }, stdin: s.stdin, event: { mark: s.event } };
  const run = (code: string, language: string, more: Json = {}) =>
    client.run(session, code, { language, ...given, ...more });
  const print = `import os, sys\n# ${s.code}\nprint(os.environ, "${s.output}", sys.stdin.read())\n`;
  await run(
    `${print}print("${s.errorOutput}", file=sys.stderr)\ndef handler(event): return ["${s.result}", event]`,
    "python",
  );
  await run(`${print}raise ValueError("${s.exception}")`, "python");
  await run(`${s.code} this is no Python ${s.code}`, "python");
  await run(`def handler(event): return object  # ${s.code}`, "python");
  await run(`console.log("${s.output}", process.env); throw new Error("${s.exception}")`, "javascript");
  await run(`const x: = "${s.code}"`, "typescript");
  await run(`echo ${s.output} $EVENT_JSON; env; ${s.code}; exit 3`, "shell");
  await run(`${print}import time; time.sleep(60)`, "python", { timeout: 1 });
  await run(`${print}x = bytearray(1 << 30)`, "python");
  const cancelled = await client.submit(session, `${print}import time; time.sleep(60)`, given);
  await client.post(`/executions/${cancelled}/cancel`);

  await client.raw("PUT", `/sessions/${session}/files/a/b.txt`, s.file);
  await (await client.raw("GET", `/sessions/${session}/files/a/b.txt?mark=${s.query}`)).text();
  await client.raw("GET", `/sessions/${session}/files/nothing?key=${s.query}`);
  await client.raw("PUT", `/sessions/${session}/files/../../${"x".repeat(300)}`, s.file);
  const json = { "Content-Type": "application/json" };
  await client.raw("POST", `/sessions/${session}/executions`, `{"code": "${s.malformed}`, json);
  await client.post(`/sessions/${session}/executions`, { code: s.code, language: s.invalid, timeout: s.invalid });
  await client.post("/sessions", { template_id: "python-basic", env_vars: { "1BAD": s.invalid } });
  await client.post("/sessions", { template_id: "python-basic", env_vars: { LD_PRELOAD: s.invalid } });
  const wrong: Record<string, string>[] = [
    { "X-API-Key": s.wrongKey },
    { "X-API-Key": `${s.apiKey}x` },
    { Authorization: `Basic ${s.wrongKey}` },
  ];
  for (const one of wrong) expect((await fetch(`${client.base}/sessions`, { headers: one })).status).toBe(401);
  const made = (await client.post("/keys", { name: "made" })).body["key"] as string;
  await client.call("GET", "/sessions", undefined, { "X-API-Key": made });
  await client.raw("DELETE", "/keys/made");

  const dependencies = [{ name: "no-such-package" }];
  const installed = await client.post("/sessions?wait=20", { template_id: "python-basic", dependencies });
  expect(installed.body["error_message"]).toContain("no-such-package");
  const refused = { python_package_index_url: `http://user:${s.indexPassword}@127.0.0.1:1/simple` };
  await client.post("/sessions?wait=20", { template_id: "python-basic", dependencies, ...refused });
  expect((await client.post(`/sessions/${session}/dependencies/install`, { dependencies })).status).toBe(400);
  return [made];
}

/** All that the service and its executor wrote for people. */
async function everyLine(server: Server): Promise<string> {
  const directory = join(server.dataDir, "executor");
  const files = (await readdir(directory)).filter((name) => name.startsWith("log") || name.includes("err"));
  const texts = await Promise.all(files.map((name) => Bun.file(join(directory, name)).text()));
  return [...server.log, await server.stderr, ...texts].join("\n");
}

function expectNone(text: string, more: string[] = []): void {
  for (const secret of [...Object.values(SECRETS), ...more]) {
    const line = text.split("\n").find((one) => one.includes(secret));
    expect(line, secret).toBeUndefined();
  }
}

const env = {
  LOG_LEVEL: "debug",
  API_KEYS: `default:${SECRETS.apiKey}`,
  SOME_PASSWORD: SECRETS.serviceVariable,
};
const headers = { Authorization: `Bearer ${SECRETS.apiKey}` };

describe("what is whose own stands in no log", () => {
  test.each(["json", "text"])(
    "of one machine, in %s",
    async (format) => {
      const dataDir = await newDataDir();
      // Has no package at all.
      const index = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response(null, { status: 404 }) });
      const indexUrl = `http://user:${SECRETS.indexPassword}@127.0.0.1:${index.port}/simple`;
      const server = await startServer({
        dataDir,
        env: { ...env, LOG_FORMAT: format, PYTHON_PACKAGE_INDEX_URL: indexUrl },
      });
      const client = new Client(server.url, headers);
      const made = await useEverything(client);
      const session = await client.session({ env_vars: { TOKEN: SECRETS.sessionVariable } });
      const lost = await client.submit(session, `import time; time.sleep(60)  # ${SECRETS.code}`);
      for await (const event of client.events(lost)) if (event.data["status"] === "running") break;
      process.kill(await server.executorPid(), "SIGKILL");
      await client.allEvents(lost);
      await client.run(session, "1");
      await server.stop();
      await index.stop();
      const text = await everyLine(server);
      for (const event of ["session.recovering", "execution.follow_failed", "session.install_failed"])
        expect([event, text.includes(event)]).toEqual([event, true]);
      expectNone(text, made);
      await rm(dataDir, { recursive: true });
    },
    60_000,
  );

  const missing = mariaDbMissing ?? minioMissing;
  test.skipIf(missing !== null)(
    missing ?? "of MariaDB and MinIO that are wrong or go away",
    async () => {
      const [database, store] = await Promise.all([MariaDb.start(), Minio.start()]);
      const dataDir = await newDataDir();
      const stored = {
        S3_ENDPOINT_URL: store.url,
        S3_ACCESS_KEY_ID: Minio.accessKeyId,
        S3_SECRET_ACCESS_KEY: Minio.secretAccessKey,
      };
      const refused = [
        { DATABASE_URL: database.url("sandbox", SECRETS.databasePassword) },
        { DATABASE_URL: database.url("sandbox", ""), DATABASE_PASSWORD: SECRETS.databasePassword },
        { DATABASE_URL: database.url(), ...stored, S3_SECRET_ACCESS_KEY: SECRETS.storeSecret },
      ];
      for (const wrong of refused) {
        const failure = await startServer({ dataDir, env: { ...env, ...wrong } }).then(
          () => null,
          (error: Error) => error.message,
        );
        expect(failure).toContain("serve ended: ");
        expectNone(failure ?? "");
      }
      const server = await startServer({ dataDir, env: { ...env, ...stored, DATABASE_URL: database.url() } });
      const client = new Client(server.url, headers);
      const session = await client.session({ env_vars: { TOKEN: SECRETS.sessionVariable } });
      const execution = await client.submit(session, `import time; time.sleep(2); print("${SECRETS.output}")`);
      await database.kill();
      await client.post("/sessions", { template_id: "python-basic", env_vars: { TOKEN: SECRETS.sessionVariable } });
      await Bun.sleep(2500);
      await database.start();
      while ((await client.get(`/executions/${execution}`)).body["status"] !== "completed") await Bun.sleep(100);
      await server.stop();
      const text = await everyLine(server);
      expect(text.includes("http.unavailable")).toBe(true);
      expectNone(text, ["p@ss:w/rd%", encodeURIComponent("p@ss:w/rd%")]);
      await endExecutor(dataDir);
      await rm(dataDir, { recursive: true });
      await Promise.all([database.stop(), store.stop()]);
    },
    60_000,
  );
});

describe("a line", () => {
  let server: Server;
  let client: Client;
  beforeAll(async () => {
    server = await startServer();
    client = new Client(server.url);
  });
  afterAll(() => server.stop());

  const lines = (): Json[] => server.log.map((line) => JSON.parse(line) as Json);

  test("is written for every request, with outcome and duration", async () => {
    await client.call("GET", "/sessions/none?secret=1", undefined, { "X-Request-ID": "asked-for" });
    const own = lines().filter((line) => line["request_id"] === "asked-for");
    expect(own).toEqual([
      {
        at: expect.stringMatching(/^\d{4}-.*Z$/) as string,
        level: "info",
        event: "http.request",
        request_id: "asked-for",
        method: "GET",
        path: "/api/v1/sessions/none",
        status: 404,
        code: "session_not_found",
        ms: expect.any(Number) as number,
        tenant: "default",
      },
    ]);
  });

  test("that stems from a request has its id, in the executor's log too", async () => {
    const id = "follow-me";
    const session = await client.session();
    const { body } = await client.post(
      `/sessions/${session}/executions?wait=10`,
      { language: "python", code: "1" },
      { "X-Request-ID": id },
    );
    const own = lines().filter((line) => line["request_id"] === id);
    expect(own.map((line) => String(line["event"])).toSorted()).toEqual(["execution.ended", "http.request"]);
    expect(own.find((line) => line["event"] === "execution.ended")).toMatchObject({
      execution_id: body["id"],
      status: "completed",
      duration_ms: expect.any(Number),
    });
    const written = await Bun.file(join(server.dataDir, "executor/log")).text();
    const theirs = written.split("\n").filter((line) => line.includes(id));
    expect(theirs.map((line) => JSON.parse(line) as Json)).toMatchObject([
      { event: "execution.ended", request_id: id, execution_id: body["id"], status: "completed" },
    ]);
  });

  test("that no request led to has none", async () => {
    const own = lines().filter((line) => line["event"] === "server.listening");
    expect(own.map((line) => line["request_id"])).toEqual([undefined]);
  });
});
