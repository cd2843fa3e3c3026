import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Client } from "./client.ts";
import { startServer, type Server } from "./server.ts";

let server: Server;
let client: Client;
beforeAll(async () => {
  server = await startServer();
  client = new Client(server.url);
  await client.post("/templates", {
    id: "warm",
    name: "Warm",
    image_url: "sandbox-template-python-basic:latest",
    runtime_type: "python3.11",
    warm_pool_size: 2,
  });
});
afterAll(() => server.stop());

/** The value of a figure with these labels, 0 when it is not there. */
async function figure(name: string, labels = ""): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const line = text.split("\n").find((one) => one.startsWith(`${name}${labels} `));
  return Number(line?.split(" ").at(-1) ?? 0);
}

async function untilReady(size: number): Promise<void> {
  const end = performance.now() + 15_000;
  while ((await figure("sandbox_warm_pool_size", '{template="warm"}')) !== size) {
    if (performance.now() > end) throw new Error(`the pool does not have ${size}`);
    await Bun.sleep(20);
  }
}

describe("a template with a warm pool", () => {
  test("a creation answers running at once, with its own limits, variables and workspace", async () => {
    await untilReady(2);
    const made = await client.post("/sessions", {
      template_id: "warm",
      memory: "256Mi",
      env_vars: { MINE: "yes" },
    });
    expect(made).toMatchObject({ status: 201, body: { status: "running", resource_limit: { memory: "256Mi" } } });
    expect(made.headers.get("Server-Timing")).toMatch(/^claim;dur=[\d.]+, total;dur=/);
    const session = made.body["id"] as string;
    const code = "import os\nprint(os.environ['MINE'], os.listdir('.'))\nopen('a.txt', 'w').write('x')";
    expect(await client.run(session, code)).toMatchObject({
      stdout: "yes []\n",
      artifacts: [expect.objectContaining({ path: "a.txt" })],
    });
    expect((await client.get(`/sessions/${session}/files`)).body["count"]).toBe(1);
    const hungry = "b = bytearray(600 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1";
    expect(await client.run(session, hungry)).toMatchObject({ status: "failed", reason: "memory_limit" });
    await client.raw("DELETE", `/sessions/${session}`);
    expect(await figure("sandbox_warm_start_duration_seconds_count")).toBe(1);
  });

  test("it is refilled, and two sessions never get the same sandbox", async () => {
    await untilReady(2);
    const ids = await Promise.all([0, 1].map(() => client.session({ template_id: "warm" })));
    await client.run(ids[0] ?? "", "open('/tmp/left', 'w').write('x')");
    expect((await client.run(ids[1] ?? "", "import os; print(os.path.exists('/tmp/left'))"))["stdout"]).toBe("False\n");
    await untilReady(2);
    for (const id of ids) await client.raw("DELETE", `/sessions/${id}`);
  });

  test("a creation from no pool says what it took when somebody waits for it", async () => {
    const waited = await client.post("/sessions?wait=10", { template_id: "nodejs-basic" });
    expect(waited.headers.get("Server-Timing")).toMatch(/^spawn;dur=[\d.]+, init;dur=[\d.]+, total;dur=/);
    const unwaited = await client.post("/sessions", { template_id: "nodejs-basic" });
    expect(unwaited.headers.get("Server-Timing")).toMatch(/^total;dur=/);
    for (const { body } of [waited, unwaited]) await client.raw("DELETE", `/sessions/${body["id"]}`);
  });

  test("an empty pool is a miss that is counted, and the session starts all the same", async () => {
    await untilReady(2);
    const ids = await Promise.all(Array.from({ length: 6 }, () => client.session({ template_id: "warm" })));
    expect(await figure("sandbox_warm_pool_misses_total", '{template="warm"}')).toBeGreaterThan(0);
    for (const id of ids) await client.raw("DELETE", `/sessions/${id}`);
  });

  test("it drains when the template wants none any more", async () => {
    await client.call("PUT", "/templates/warm", { warm_pool_size: 0 });
    await untilReady(0);
    const { body } = await client.get("/health/detailed");
    expect(JSON.stringify(body)).toContain("0 sandboxes");
  });
});
