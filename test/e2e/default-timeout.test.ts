import { expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { Client } from "./client.ts";
import { newDataDir, startServer } from "./server.ts";

test("DEFAULT_TIMEOUT holds for sessions of every template that has no timeout of its own", async () => {
  const dataDir = await newDataDir();
  const own = { image_url: "sandbox-template-python-basic:latest", runtime_type: "python3.11" };
  try {
    for (const seconds of [120, 240]) {
      const server = await startServer({ dataDir, env: { DEFAULT_TIMEOUT: String(seconds) } });
      try {
        const client = new Client(server.url);
        await client.post("/templates", { id: "without", name: "Without", ...own });
        await client.post("/templates", { id: "with", name: "With", ...own, default_timeout: 60 });
        for (const [id, expected] of Object.entries({ "python-basic": seconds, without: seconds, with: 60 })) {
          const template = await client.get(`/templates/${id}`);
          expect(template.body).toMatchObject({ default_timeout: expected, default_timeout_sec: expected });
          const session = await client.post("/sessions", { template_id: id });
          expect(session.body).toMatchObject({ template_id: id, timeout: expected });
          await client.raw("DELETE", `/sessions/${session.body["id"]}`);
        }
        const asked = await client.post("/sessions", { template_id: "without", timeout: 7 });
        expect(asked.body["timeout"]).toBe(7);
      } finally {
        await server.stop();
      }
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
});
