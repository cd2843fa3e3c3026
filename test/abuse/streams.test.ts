import { afterAll, beforeAll, expect, test } from "bun:test";
import { Client } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { heldBy, open, until, type Connection, type Held } from "./connections.ts";

const STREAMS = 1000;
const LINES = 20;
const KEPT = 200;

let server: Server;
let client: Client;
beforeAll(async () => {
  server = await startServer();
  client = new Client(server.url);
});
afterAll(() => server.stop());

/** Every line once and in order, events without a gap, and the end. */
function expectWhole({ received }: Connection): void {
  const events = received.split("\n\n").filter((block) => block.includes("\ndata: ") || block.startsWith("id: "));
  const numbers = events.map((block) => Number(/(?:^|\n)id: (\d+)/.exec(block)?.[1]));
  expect(numbers).toEqual(numbers.map((_, index) => index + 1));
  expect(events.at(-1)).toContain("event: end");
  const output = events.flatMap((block) => /event: stdout\ndata: (.*)/.exec(block)?.[1] ?? []);
  const text = output.map((data) => (JSON.parse(data) as { text: string }).text).join("");
  expect(text).toBe(Array.from({ length: LINES }, (_, index) => `line ${index}\n`).join(""));
}

test(`${STREAMS} streams of one client all get their data, are bounded, and leave nothing`, async () => {
  const session = await client.session();
  await client.run(session, "print(1)");
  const executor = await server.executorPid();
  const held = (): Promise<[serve: Held, executor: Held]> =>
    Promise.all([heldBy(server.process.pid), heldBy(executor)]);
  const before = await held();
  const code = `import os, time
while not os.path.exists("go"): time.sleep(0.01)
for line in range(${LINES}):
  print("line", line, flush=True)
  time.sleep(0.05)`;
  const execution = await client.submit(session, code, { timeout: 120 });
  const connections = await Promise.all(Array.from({ length: STREAMS }, () => open(server.url)));
  const request = `GET /api/v1/executions/${execution}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n`;
  for (const connection of connections) connection.send(request);
  await until(
    "all have the first events",
    () => connections.every(({ received }) => received.includes("running")),
    60_000,
  );
  const during = await held();
  // Others are answered meanwhile.
  const startedMs = performance.now();
  expect((await client.get("/health")).status).toBe(200);
  expect(await client.run(session, "print(2)")).toMatchObject({ status: "completed", stdout: "2\n" });
  const otherMs = Math.round(performance.now() - startedMs);
  await client.raw("PUT", `/sessions/${session}/files/go`, "");
  await until("all have the end", () => connections.every(({ received }) => received.includes("event: end")), 60_000);
  for (const connection of connections) expectWhole(connection);

  for (const connection of connections) connection.end();
  const [serveBefore, executorBefore] = [before[0].descriptors, before[1].descriptors];
  await until("descriptors are given back", async () => {
    const [serve, keeper] = await held();
    // Bun keeps some connections between the two for the next requests.
    return serve.descriptors <= serveBefore + KEPT && keeper.descriptors <= executorBefore + KEPT;
  });
  await until("memory is given back", async () => (await held())[0].mib < before[0].mib + 60, 60_000);
  const after = await held();
  process.stderr.write(`${STREAMS} streams: [serve, executor] ${JSON.stringify({ before, during, after, otherMs })}\n`);
  expect(during[0].mib - before[0].mib).toBeLessThan(200);
  expect(during[1].mib - before[1].mib).toBeLessThan(200);
  expect(during[0].descriptors).toBeLessThan(serveBefore + 3 * STREAMS);
}, 120_000);
