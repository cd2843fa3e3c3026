import { afterEach, describe, expect, test } from "bun:test";
import { Client } from "./client.ts";
import { startServer, type Server } from "./server.ts";

let server: Server;
afterEach(() => server.stop());

describe.each(["SIGTERM", "SIGINT"] as const)("%s ends serve", (signal) => {
  test("soon and with code 0: streams close without their end, waits are answered", async () => {
    server = await startServer();
    const client = new Client(server.url);
    const session = await client.session();
    const id = await client.submit(session, "import time\nprint('begun', flush=True)\ntime.sleep(60)");
    const types: string[] = [];
    const begun = Promise.withResolvers<void>();
    const stream = (async () => {
      for await (const event of client.events(id)) {
        types.push(event.type);
        if (event.type === "stdout") begun.resolve();
      }
    })().catch(() => {});
    const waiting = client.post(`/sessions/${session}/executions?wait=60`, { language: "shell", code: "sleep 60" });
    await begun.promise;
    while ((await client.get(`/sessions/${session}/executions`)).body["total"] !== 2) await Bun.sleep(10);
    const toldAt = performance.now();
    server.process.kill(signal);
    expect(await server.process.exited).toBe(0);
    expect(performance.now() - toldAt).toBeLessThan(12_000);
    await stream;
    expect(types).toEqual(["status", "status", "stdout"]);
    expect((await waiting).status).toBe(202);
    const lines = server.log.map((line) => JSON.parse(line) as { event: string });
    expect(lines.at(-1)?.event).toBe("server.stopped");
  }, 20_000);
});
