import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { Client } from "./client.ts";
import { startServer, type Server } from "./server.ts";

let server: Server;
let client: Client;
beforeAll(async () => {
  server = await startServer();
  client = new Client(server.url);
});
afterAll(() => server.stop());

const HAS_NUMPY = Bun.spawnSync(["/usr/bin/python3", "-c", "import numpy"]).exitCode === 0;

async function template(id: string, fields: Record<string, unknown>): Promise<void> {
  const common = { id, name: id, image_url: "sandbox-template-python-basic:latest", runtime_type: "python3.11" };
  const made = await client.post("/templates", { ...common, ...fields });
  expect(made).toMatchObject({ status: 201, body: fields });
}

/** Runs a look at `sys.modules` until the module is there; every run until then must work as well. */
async function untilLoaded(session: string, name: string): Promise<void> {
  const code = `import sys\ndef handler(event):\n    return ${JSON.stringify(name)} in sys.modules`;
  const end = performance.now() + 20_000;
  for (;;) {
    const execution = await client.run(session, code);
    expect(execution["status"]).toBe("completed");
    if (execution["return_value"] === true) return;
    if (performance.now() > end) throw new Error(`${name} is never preloaded`);
    await Bun.sleep(50);
  }
}

describe("a template with modules to preload", () => {
  test("its sessions have them before a program imports them; one that fails changes nothing", async () => {
    await template("pre", { preload_modules: ["no.such_module", "this", "xml.dom.minidom"] });
    const session = await client.session({ template_id: "pre" });
    await untilLoaded(session, "xml.dom.minidom");
    expect((await client.run(session, "import xml.dom.minidom as m\nprint(m.__name__)"))["stdout"]).toBe(
      "xml.dom.minidom\n",
    );
    const log = await Bun.file(join(server.dataDir, "executor/log")).text();
    const lines = log.split("\n").filter((line) => line.includes("preload: "));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain("no.such_module");
    await client.raw("DELETE", `/sessions/${session}`);
  });

  test("a change holds for sessions that are made afterwards", async () => {
    await template("changed", { preload_modules: ["xml.dom.minidom"] });
    const before = await client.session({ template_id: "changed" });
    const put = await client.call("PUT", "/templates/changed", { preload_modules: ["sqlite3.dump", "wave"] });
    expect(put).toMatchObject({ status: 200, body: { preload_modules: ["sqlite3.dump", "wave"] } });
    expect((await client.get("/templates/changed")).body["preload_modules"]).toEqual(["sqlite3.dump", "wave"]);
    const after = await client.session({ template_id: "changed" });
    await untilLoaded(before, "xml.dom.minidom");
    await untilLoaded(after, "wave");
    for (const id of [before, after]) await client.raw("DELETE", `/sessions/${id}`);
  });

  test("a sandbox of a warm pool has them too, and none that was made without them is taken", async () => {
    await template("pool", { warm_pool_size: 1, preload_modules: [] });
    await untilPooled("pool");
    await client.call("PUT", "/templates/pool", { preload_modules: ["xml.dom.minidom"] });
    const first = await client.session({ template_id: "pool" });
    await untilLoaded(first, "xml.dom.minidom");
    await untilPooled("pool");
    const second = await client.post("/sessions", { template_id: "pool" });
    expect(second.body["status"]).toBe("running");
    await untilLoaded(second.body["id"] as string, "xml.dom.minidom");
    await client.call("PUT", "/templates/pool", { warm_pool_size: 0 });
  });

  test("names are dotted identifiers, 32 at most", async () => {
    const common = { id: "bad", name: "bad", image_url: "sandbox-template-python-basic:latest", runtime_type: "bun" };
    const bad = ["", "a.", ".a", "a..b", "1a", "a-b", "a b", "a;b", "--cold", "a\n", "é", "x".repeat(201)];
    for (const name of bad)
      expect([name, (await client.post("/templates", { ...common, preload_modules: [name] })).status]).toEqual([
        name,
        422,
      ]);
    const many = Array.from({ length: 33 }, (_, i) => `m${i}`);
    expect((await client.post("/templates", { ...common, preload_modules: many })).status).toBe(422);
    expect((await client.post("/templates", { ...common, preload_modules: "json" })).status).toBe(422);
    const made = await client.post("/templates", { ...common, preload_modules: many.slice(1) });
    expect(made).toMatchObject({ status: 201, body: { preload_modules: many.slice(1) } });
  });

  test.skipIf(!HAS_NUMPY)(
    "numpy is there, has no threads when a program is forked, and works in many at once",
    async () => {
      await template("numbers", { preload_modules: ["numpy"] });
      const session = await client.session({ template_id: "numbers" });
      await untilLoaded(session, "numpy");
      // Processes of the sandbox other than this one and init: the zygotes.
      const look = `
import os
def threads(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Threads"))
def handler(event):
    return [threads(pid) for pid in os.listdir("/proc") if pid.isdigit()]`;
      const { return_value: counts } = await client.run(session, look);
      expect(counts.length).toBeGreaterThan(2);
      expect(new Set(counts)).toEqual(new Set([1]));
      const work = `
import numpy
def handler(event):
    a = numpy.random.rand(150, 150)
    return [float(abs(a @ numpy.linalg.inv(a) - numpy.eye(150)).max()) < 1e-6, float(a[0][0])]`;
      const done = await Promise.all(Array.from({ length: 8 }, () => client.run(session, work)));
      const values = done.map((one) => one["return_value"] as [boolean, number]);
      expect(values.map(([isRight]) => isRight)).toEqual(done.map(() => true));
      expect(new Set(values.map(([, first]) => first)).size).toBe(8);
      await client.raw("DELETE", `/sessions/${session}`);
    },
  );
});

async function untilPooled(id: string): Promise<void> {
  const end = performance.now() + 15_000;
  for (;;) {
    const text = await (await fetch(`${server.url}/metrics`)).text();
    if (text.includes(`sandbox_warm_pool_size{template="${id}"} 1`)) return;
    if (performance.now() > end) throw new Error("the pool is never full");
    await Bun.sleep(20);
  }
}
