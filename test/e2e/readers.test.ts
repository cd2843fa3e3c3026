import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Client, provenOutput } from "./client.ts";
import { startServer, type Server } from "./server.ts";

let server: Server;
let client: Client;
let session: string;
beforeAll(async () => {
  server = await startServer();
  client = new Client(server.url);
  session = await client.session();
});
afterAll(() => server.stop());

/** Resident bytes of a process. */
async function residentBytes(pid: number): Promise<number> {
  const status = await Bun.file(`/proc/${pid}/status`).text();
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
}

async function openSockets(pid: number): Promise<number> {
  return (await new Response(Bun.spawn(["ls", `/proc/${pid}/fd`]).stdout).text()).trim().split("\n").length;
}

describe("readers", () => {
  test("one that reads 1 KB/s slows nobody and costs the server no memory", async () => {
    const flood = "import sys\nfor i in range(80): sys.stdout.write('y'*1000000)";
    await client.allEvents(await client.submit(session, flood));
    const execution = await client.submit(session, flood);
    const slow = await client.raw("GET", `/executions/${execution}/events`, undefined, { Accept: "text/event-stream" });
    const reader = slow.body?.getReader();
    await reader?.read();
    const before = await residentBytes(server.process.pid);
    const started = performance.now();
    const done = await client.allEvents(execution);
    expect(done.at(-1)?.data["status"]).toBe("completed");
    expect(provenOutput(done, "stdout").length).toBe(80_000_000);
    expect(performance.now() - started).toBeLessThan(30_000);
    for (let i = 0; i < 3; i++) await Promise.race([reader?.read(), Bun.sleep(1000)]);
    expect((await residentBytes(server.process.pid)) - before).toBeLessThan(50 * 1024 * 1024);
    await reader?.cancel();
  }, 60_000);

  test("those that leave in mid-stream free what they held at once", async () => {
    const execution = await client.submit(
      session,
      "import time\nfor i in range(100):\n  print(i, flush=True)\n  time.sleep(0.05)",
    );
    await client.get("/health");
    const before = await openSockets(server.process.pid);
    const readers = await Promise.all(
      Array.from({ length: 40 }, async () => {
        const stop = new AbortController();
        const stream = client.events(execution, { signal: stop.signal });
        await stream.next();
        return stop;
      }),
    );
    expect(await openSockets(server.process.pid)).toBeGreaterThan(before + 20);
    for (const stop of readers) stop.abort();
    const end = performance.now() + 3000;
    while ((await openSockets(server.process.pid)) > before + 8 && performance.now() < end) await Bun.sleep(20);
    expect(await openSockets(server.process.pid)).toBeLessThanOrEqual(before + 8);
    const events = await client.allEvents(execution);
    expect(events.at(-1)?.data["status"]).toBe("completed");
  }, 30_000);

  test("a quiet stream carries a comment at least every 15 s", async () => {
    const execution = await client.submit(session, "sleep 17", { language: "shell" });
    const response = await client.raw("GET", `/executions/${execution}/events`, undefined, {
      Accept: "text/event-stream",
    });
    const text = await response.text();
    expect(text.split("\n").filter((line) => line.startsWith(":")).length).toBeGreaterThan(0);
  }, 30_000);

  test("the first bytes come at once, also of an execution that says nothing", async () => {
    const execution = await client.submit(session, "sleep 2", { language: "shell" });
    const started = performance.now();
    for await (const event of client.events(execution)) {
      expect(event.data["status"]).toBe("pending");
      break;
    }
    expect(performance.now() - started).toBeLessThan(500);
  });
});
