/** Lists of a service that keeps many ended sessions, over HTTP against the compiled executable: `bun test/bench/lists.ts [COUNT]`. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { openSqlite } from "../../src/stores/sqlite.ts";
import { executionRecord, sessionRecord, templateRecord } from "../contracts/records.ts";
import { storesOn } from "../contracts/sql.ts";
import { Client } from "../e2e/client.ts";
import { newDataDir, startServer } from "../e2e/server.ts";
import { machine, reportLatency, sample } from "./figures.ts";

const COUNT = Number(process.argv[2] ?? 10_000);
const EXECUTIONS = 10;

async function fill(dataDir: string): Promise<void> {
  const sql = openSqlite(join(dataDir, "sandbox.db"));
  const { templates, sessions, executions } = storesOn(sql);
  await templates.insert(templateRecord({ id: "python-basic", name: "Python" }));
  const at = new Date().toISOString();
  for (let i = 0; i < COUNT; i++) {
    const id = `s${i}`;
    const status = i % 10 === 0 ? "failed" : "terminated";
    await sessions.insert(sessionRecord({ id, template_id: "python-basic", status, created_at: at, completed_at: at }));
    for (let j = 0; j < EXECUTIONS; j++)
      await executions.insert(
        executionRecord({
          id: `e${i}-${j}`,
          session_id: id,
          status: "completed",
          created_at: at,
          completed_at: at,
          stdout: "x".repeat(200),
        }),
        { owner: "nobody", expiresAt: at },
      );
  }
  await sql.close();
}

console.log(await machine());
console.log(`${COUNT} ended sessions with ${EXECUTIONS} executions each`);
const dataDir = await newDataDir();
await Bun.write(join(dataDir, "lock"), "");
await fill(dataDir);
const server = await startServer({ dataDir });
const client = new Client(server.url);
async function time(name: string, path: string): Promise<void> {
  const get = async (): Promise<void> => {
    const { status, body } = await client.get(path);
    if (status !== 200 || (body["items"] as unknown[]).length === 0)
      throw new Error(`${status} ${JSON.stringify(body)}`);
  };
  reportLatency(name, await sample(200, 20, get), 20);
}
await time("sessions, first 50", "/sessions?limit=50");
await time("sessions, first 200", "/sessions?limit=200");
await time("sessions, last 50", `/sessions?limit=50&offset=${COUNT - 50}`);
await time("sessions that failed, first 50", "/sessions?status=failed");
await time("sessions of a template, first 50", "/sessions?template_id=python-basic");
await time("executions of a session", "/sessions/s7/executions");
await server.stop();
await rm(dataDir, { recursive: true, force: true });
