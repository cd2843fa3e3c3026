import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Client, provenOutput } from "./client.ts";
import { startServer, type Server } from "./server.ts";

const MIB = 1024 ** 2;

let server: Server;
beforeAll(async () => {
  server = await startServer({ env: { JOURNALS_LIMIT_MB: "4" } });
});
afterAll(() => server.stop());

function journals(session: string): Map<string, number> {
  const dir = join(server.dataDir, "journals", session);
  return new Map(readdirSync(dir).map((name) => [name.replace(".journal", ""), statSync(join(dir, name)).size]));
}

test("journals stay within their disk: the oldest go, a live one and every record stay", async () => {
  const client = new Client(server.url);
  const session = await client.session();
  const live = await client.submit(session, "print('x' * 500_000, flush=True)\nimport time; time.sleep(60)", {
    timeout: 90,
  });
  for await (const event of client.events(live)) if (event.type === "stdout") break;
  const ids: string[] = [];
  for (let i = 0; i < 12; i++) {
    const { id, stdout } = await client.run(
      session,
      `print(('${String.fromCharCode(97 + i)}' * 79 + '\\n') * 7000, end='')`,
    );
    ids.push(id as string);
    expect((stdout as string).length).toBe(560_000);
    // As many as are there now, until the next pass has made room for another one.
    for (const end = performance.now() + 10_000; performance.now() < end; await Bun.sleep(20)) {
      const bytes = [...journals(session).values()].reduce((sum, size) => sum + size, 0);
      expect(bytes).toBeLessThan(4 * MIB);
      if (bytes < 0.8 * 4 * MIB) break;
    }
  }
  const left = journals(session);
  expect(left.has(live)).toBe(true);
  expect(left.has(ids.at(-1) ?? "")).toBe(true);
  expect(left.has(ids[0] ?? "")).toBe(false);
  const events = await client.allEvents(ids[0] ?? "");
  expect(provenOutput(events, "stdout")).toBe(`${"a".repeat(79)}\n`.repeat(7000));
  expect(events.at(-1)?.data).toMatchObject({ status: "completed", stdout_truncated: false });
  expect((await client.post(`/executions/${live}/cancel`)).body).toMatchObject({ status: "cancelled" });
  expect(provenOutput(await client.allEvents(live), "stdout").length).toBe(500_001);
}, 60_000);
