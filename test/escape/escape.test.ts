import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { HOSTILE_PROGRAMS, Prover } from "../../src/prove/prover.ts";
import { Client } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";

const NEIGHBOURS = 32;

let server: Server;
let prover: Prover;
let neighbours: string[];
const stop = new AbortController();
let busy: Promise<unknown>;

beforeAll(async () => {
  server = await startServer({ env: { API_KEYS: "" } });
  const client = new Client(server.url);
  neighbours = await Promise.all(Array.from({ length: NEIGHBOURS }, () => client.session()));
  prover = new Prover({ url: server.url, dataDir: server.dataDir, executorPid: await server.executorPid() });
  await prover.open();
  busy = keepBusy(client);
}, 60_000);

afterAll(async () => {
  stop.abort();
  await busy;
  await prover.close();
  await server.stop();
}, 60_000);

/** Every neighbour gets work in turn, and each result is checked. */
async function keepBusy(client: Client): Promise<void> {
  for (let i = 0; !stop.signal.aborted; i++) {
    const session = neighbours[i % NEIGHBOURS] ?? "";
    const ended = await client.run(session, `print(${i})`);
    if (ended["stdout"] !== `${i}\n`) throw new Error(`a neighbour was harmed: ${JSON.stringify(ended)}`);
    await Bun.sleep(50);
  }
}

describe("while 32 other sessions run, no hostile program breaks", () => {
  for (const program of HOSTILE_PROGRAMS)
    test(`${program.group}: ${program.name}: ${program.property}`, async () => {
      const verdict = await prover.prove(program);
      expect(verdict.detail).toBe("");
      expect(verdict.held).toBe(true);
    }, 120_000);

  test("at least 60 programs, each with a name of its own", () => {
    expect(new Set(HOSTILE_PROGRAMS.map((one) => one.name)).size).toBe(HOSTILE_PROGRAMS.length);
    expect(HOSTILE_PROGRAMS.length).toBeGreaterThanOrEqual(60);
  });
});
