import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod, mkdtemp, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "./client.ts";
import { startServer, type Server } from "./server.ts";

let bin: string;
let server: Server;
let client: Client;
beforeAll(async () => {
  bin = await mkdtemp("/tmp/no-jail-");
  await chmod(bin, 0o755);
  server = await startServer({ env: { PATH: bin } });
  client = new Client(server.url);
});
afterAll(async () => {
  await server.stop();
  await rm(bin, { recursive: true, force: true });
});

test("where no jail can be made sessions fail at once and say why, until it can", async () => {
  const started = performance.now();
  for (const dependencies of [[], [{ name: "idna" }]]) {
    const made = await client.post("/sessions?wait=30", { template_id: "python-basic", dependencies });
    expect(made).toMatchObject({ status: 201, body: { status: "failed" } });
    expect(made.body["error_message"]).toContain("bubblewrap");
    const refused = await client.post(`/sessions/${made.body["id"]}/executions`, { language: "python", code: "1" });
    expect(refused).toMatchObject({ status: 409, body: { code: "session_ended" } });
  }
  expect(performance.now() - started).toBeLessThan(15_000);
  expect((await fetch(`${server.url}/readyz`)).status).toBe(503);
  for (const name of ["bwrap", "rm", "setpriv"]) await symlink(Bun.which(name) ?? "", join(bin, name));
  const session = await client.session();
  expect((await client.run(session, "print('runs')"))["stdout"]).toBe("runs\n");
});
