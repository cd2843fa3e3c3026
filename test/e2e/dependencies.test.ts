import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { LocalIndex } from "../executor/local-index.ts";
import { Client } from "./client.ts";
import { startServer, type Server } from "./server.ts";

let index: LocalIndex;
let server: Server;
let client: Client;

beforeAll(async () => {
  index = new LocalIndex();
  await index.wheel("alpha", "1.0", "VALUE = 'one'\ndef say(): print('said')\n");
  await index.wheel("beta", "1.0", "VALUE = 'beta'\n");
  server = await startServer({ env: { PYTHON_PACKAGE_INDEX_URL: index.url } });
  client = new Client(server.url);
});
afterAll(async () => {
  await server.stop();
  await index.close();
});

test("a session whose sandbox was lost gets its packages again", async () => {
  const session = await client.session({ dependencies: [{ name: "alpha" }] });
  process.kill(await server.executorPid(), "SIGKILL");
  expect(await client.run(session, "import alpha\nprint(alpha.VALUE)")).toMatchObject({ stdout: "one\n" });
  expect(await client.run(session, "alpha-say", { language: "shell" })).toMatchObject({ stdout: "said\n" });
}, 40_000);

test("an installation whose executor is killed leaves nothing and is done again", async () => {
  const gate = Promise.withResolvers<void>();
  index.gate = gate.promise;
  const { body } = await client.post("/sessions", { template_id: "python-basic", dependencies: [{ name: "beta" }] });
  while (!index.asked.some((path) => path.includes("/files/beta"))) await Bun.sleep(10);
  expect((await client.get(`/sessions/${body["id"]}`)).body).toMatchObject({
    status: "creating",
    dependency_install_status: "installing",
  });
  const layers = readdirSync(`${server.dataDir}/layers`);
  process.kill(await server.executorPid(), "SIGKILL");
  gate.resolve();
  expect(await client.run(body["id"] as string, "import beta\nprint(beta.VALUE)")).toMatchObject({ stdout: "beta\n" });
  const left = readdirSync(`${server.dataDir}/workspaces`).filter((name) => name.startsWith(".once"));
  expect(left).toEqual([]);
  expect(readdirSync(`${server.dataDir}/layers`).length).toBe(layers.length + 1);
}, 60_000);

test("a session can be ended while its packages are installed", async () => {
  const gate = Promise.withResolvers<void>();
  index.gate = gate.promise;
  await index.wheel("delta", "1.0", "");
  const { body } = await client.post("/sessions", { template_id: "python-basic", dependencies: [{ name: "delta" }] });
  while (!index.asked.some((path) => path.includes("/files/delta"))) await Bun.sleep(10);
  const startedMs = performance.now();
  const ended = await client.post(`/sessions/${body["id"]}/terminate`);
  expect(ended.body).toMatchObject({ status: "terminated" });
  expect(performance.now() - startedMs).toBeLessThan(2000);
  gate.resolve();
}, 30_000);
