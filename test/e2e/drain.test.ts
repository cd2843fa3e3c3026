import { afterEach, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { endExecutor, newDataDir, serviceEnv, startServer, EXECUTABLE, type Server } from "./server.ts";
import { Client } from "./client.ts";

const GRACE_S = 2;

let server: Server | null = null;
afterEach(async () => {
  await server?.stop();
  server = null;
});

async function start(graceS = GRACE_S, waitS = 0): Promise<{ server: Server; client: Client }> {
  server = await startServer({ env: { DRAIN_GRACE_SECONDS: `${graceS}`, DRAIN_WAIT_SECONDS: `${waitS}` } });
  const client = new Client(server.url);
  while ((await fetch(`${server.url}/readyz`)).status !== 200) await Bun.sleep(10);
  return { server, client };
}

/** Sends SIGTERM and resolves when the service says that it drains. */
async function drain(target: Server): Promise<void> {
  target.process.kill("SIGTERM");
  while (!target.log.some((line) => line.includes('"server.draining"'))) await Bun.sleep(2);
}

describe("after SIGTERM, in the grace", () => {
  test("readyz answers 503 and everything else goes on, each connection ending with its next answer", async () => {
    const { server: draining, client } = await start();
    const session = await client.session();
    await drain(draining);
    const ready = await fetch(`${draining.url}/readyz`);
    expect(ready.status).toBe(503);
    expect(await ready.json()).toMatchObject({ reason: "draining" });
    expect(ready.headers.get("connection")).toBe("close");
    expect((await fetch(`${draining.url}/healthz`)).status).toBe(200);
    expect(await client.run(session, "print('served')")).toMatchObject({ status: "completed", stdout: "served\n" });
    expect(await client.session()).toStartWith("sess_");
    expect(await draining.process.exited).toBe(0);
  }, 20_000);

  test("a connection that was kept alive is closed after an answer, never before one", async () => {
    const { server: draining } = await start();
    const { hostname, port } = new URL(draining.url);
    const socket = connect(Number(port), hostname);
    let said = "";
    const closed = new Promise((resolve) => socket.once("close", resolve));
    const ask = async (): Promise<string> => {
      said = "";
      socket.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
      while (!said.endsWith("}")) await new Promise((resolve) => socket.once("data", resolve));
      return said;
    };
    socket.on("data", (bytes) => (said += bytes.toString()));
    expect(await ask()).not.toContain("close");
    await drain(draining);
    expect(await ask()).toMatch(/^HTTP\/1.1 200 [\s\S]*connection: close/i);
    await closed;
  }, 20_000);

  test("a wait that ends in it is answered in full", async () => {
    const { server: draining, client } = await start();
    const session = await client.session();
    const began = client.post(`/sessions/${session}/executions?wait=60`, {
      language: "python",
      code: "import time; time.sleep(1); print('all')",
    });
    while ((await client.get(`/sessions/${session}/executions`)).body["total"] !== 1) await Bun.sleep(5);
    await drain(draining);
    expect(await began).toMatchObject({ status: 200, body: { status: "completed", stdout: "all\n" } });
  }, 20_000);
});

describe("after the grace", () => {
  test("streams tell their readers to reconnect and close without an end; the service exits 0", async () => {
    const { server: draining, client } = await start(1, 30);
    const session = await client.session();
    const id = await client.submit(
      session,
      "import time\nfor i in range(600):\n  print(i, flush=True)\n  time.sleep(.1)",
    );
    const accept = (type: string) => client.raw("GET", `/executions/${id}/events`, undefined, { Accept: type });
    const [sse, lines] = await Promise.all([accept("text/event-stream"), accept("application/x-ndjson")]);
    const read = Promise.all([sse.text(), lines.text()]);
    // Nobody waits for the rest of a request that does not come.
    const { hostname, port } = new URL(draining.url);
    const silent = connect(Number(port), hostname);
    silent.on("error", () => {}).write("GET /healthz HT");
    await new Promise((resolve) => silent.once("connect", resolve));
    const toldAt = performance.now();
    await drain(draining);
    const [events, json] = await read;
    expect(events).toEndWith("\n\n: reconnect with Last-Event-ID\nretry: 200\n\n");
    expect(events).not.toContain("event: end");
    expect(json).toEndWith("}\n\n");
    expect(json).not.toContain('"type":"end"');
    // Readers were served through the grace.
    expect(performance.now() - toldAt).toBeGreaterThan(900);
    expect(await draining.process.exited).toBe(0);
    expect(performance.now() - toldAt).toBeLessThan(6000);
  }, 20_000);

  test("calls that wait go on as long as they may, and then say that the execution goes on", async () => {
    const { server: draining, client } = await start(0, 3);
    const session = await client.session();
    const run = (path: string, seconds: number) =>
      client.post(path, { language: "python", code: `import time; time.sleep(${seconds}); print('all')` });
    const calls = [
      run(`/sessions/${session}/executions?wait=60`, 1),
      run(`/executions/sessions/${session}/execute-sync`, 60),
      run(`/sessions/${session}/executions?wait=60`, 60),
    ] as const;
    while ((await client.get(`/sessions/${session}/executions`)).body["total"] !== 3) await Bun.sleep(5);
    await drain(draining);
    const [short, sync, long] = await Promise.all(calls);
    expect(short).toMatchObject({ status: 200, body: { status: "completed", stdout: "all\n" } });
    expect(sync).toMatchObject({ status: 408, body: { code: "sync_timeout" } });
    expect(sync.body["message"]).toMatch(/^execution exec_\S+ goes on; /);
    expect(long.status).toBe(202);
    expect(await draining.process.exited).toBe(0);
  }, 20_000);

  test("a request that is under way is answered, though no new one is taken", async () => {
    const { server: draining, client } = await start(0);
    const session = await client.session();
    const { hostname, port } = new URL(draining.url);
    const socket = connect(Number(port), hostname);
    let said = "";
    socket.on("data", (bytes) => (said += bytes.toString()));
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.write(
      `PUT /api/v1/sessions/${session}/files/late.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nhalf`,
    );
    // The request has begun once its file has.
    await Bun.sleep(100);
    await drain(draining);
    while (
      await fetch(`${draining.url}/healthz`).then(
        () => true,
        () => false,
      )
    )
      await Bun.sleep(5);
    socket.write("done");
    await closed;
    expect(said).toMatch(/^HTTP\/1.1 201 /);
    expect(await draining.process.exited).toBe(0);
  }, 20_000);
});

describe("a short way out", () => {
  test("SIGINT waits for no grace", async () => {
    const { server: draining, client } = await start(60);
    await client.submit(await client.session(), "import time; time.sleep(60)");
    const toldAt = performance.now();
    draining.process.kill("SIGINT");
    expect(await draining.process.exited).toBe(0);
    expect(performance.now() - toldAt).toBeLessThan(5000);
  }, 20_000);

  test("SIGTERM ends a service that still waits for its database", async () => {
    const dataDir = await newDataDir();
    const env = { DATABASE_URL: "mysql://nobody@127.0.0.1:9/sandbox", DRAIN_GRACE_SECONDS: "60" };
    const child = Bun.spawn([EXECUTABLE, "serve"], { env: serviceEnv(dataDir, env), stdout: "pipe", stderr: "pipe" });
    for await (const bytes of child.stdout) if (Buffer.from(bytes).includes("database.waiting")) break;
    const toldAt = performance.now();
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    expect(performance.now() - toldAt).toBeLessThan(2000);
    await endExecutor(dataDir);
  }, 20_000);
});
