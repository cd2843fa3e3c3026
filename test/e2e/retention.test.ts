import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "./client.ts";
import { endExecutor, newDataDir, startServer, type Server } from "./server.ts";

const DAY_MS = 24 * 3600_000;
const daysAgo = (days: number): string => new Date(Date.now() - days * DAY_MS).toISOString();

let dataDir: string;
let server: Server;
beforeAll(async () => {
  dataDir = await newDataDir();
});
afterAll(async () => {
  await server.stop();
  await endExecutor(dataDir);
  await rm(dataDir, { recursive: true, force: true });
});

/** Resolves when the service has logged this event. */
async function logged(event: string): Promise<void> {
  const end = performance.now() + 15_000;
  while (!server.log.some((line) => line.includes(`"${event}"`))) {
    if (performance.now() > end) throw new Error(`no ${event} in\n${server.log.join("\n")}`);
    await Bun.sleep(20);
  }
}

test("what ended longer ago than it is kept is gone, with its files and journals, and nothing else", async () => {
  const settings = { EXECUTOR_LINGER: "true", SESSION_RETENTION_DAYS: "3", EXECUTION_RETENTION_DAYS: "2" };
  server = await startServer({ dataDir, env: settings });
  let client = new Client(server.url);
  const [old, recent, live] = [await client.session(), await client.session(), await client.session({ timeout: 3600 })];
  const runs = new Map<string, string>();
  for (const session of [old, recent, live])
    runs.set(session, (await client.run(session, "open('f.txt', 'w').write('x')"))["id"] as string);
  const young = (await client.run(live, "print(1)"))["id"] as string;
  const running = await client.submit(live, "import time; time.sleep(60)", { timeout: 120 });
  for (const session of [old, recent]) await client.post(`/sessions/${session}/terminate`);
  server.process.kill("SIGTERM");
  await server.process.exited;

  const db = new Database(join(dataDir, "sandbox.db"), { strict: true });
  const backdate = (table: string, id: string, days: number): void =>
    void db.run(`UPDATE ${table} SET created_at = ?, completed_at = ? WHERE id = ?`, [
      daysAgo(days),
      daysAgo(days),
      id,
    ]);
  backdate("sessions", old, 4);
  backdate("sessions", recent, 2);
  backdate("executions", runs.get(live) ?? "", 2.5);
  db.run("UPDATE executions SET created_at = ? WHERE id = ?", [daysAgo(2.5), running]);
  db.run("DELETE FROM upkeep WHERE name = 'retention'");
  db.close();
  server = await startServer({ dataDir, env: settings });
  client = new Client(server.url);
  await logged("retention.deleted");

  expect((await client.get(`/sessions/${old}`)).status).toBe(404);
  expect((await client.get(`/executions/${runs.get(old)}`)).status).toBe(404);
  expect(existsSync(join(dataDir, "workspaces", old))).toBe(false);
  expect(existsSync(join(dataDir, "journals", old))).toBe(false);
  expect((await client.get(`/executions/${runs.get(live)}`)).status).toBe(404);
  expect(readdirSync(join(dataDir, "journals", live)).toSorted()).toEqual(
    [`${young}.journal`, `${running}.journal`].toSorted(),
  );
  expect((await client.get(`/executions/${young}`)).status).toBe(200);
  expect((await client.get(`/executions/${running}`)).body["status"]).toBe("running");
  expect((await client.get(`/sessions/${recent}`)).status).toBe(200);
  expect((await client.raw("GET", `/sessions/${recent}/files/f.txt`)).status).toBe(200);
  expect((await client.run(live, "print(open('f.txt').read())"))["stdout"]).toBe("x\n");
}, 40_000);
