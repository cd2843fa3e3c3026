import { expect, test } from "bun:test";
import { connect } from "node:net";
import { createServer } from "../../src/http/server.ts";
import { startApi } from "./fixture.ts";

test("stopping ends waits with the present state and streams without an end", async () => {
  const api = await startApi();
  const session = await api.client.session();
  const id = await api.client.submit(session, "hang");
  const waiting = api.client.post(`/sessions/${session}/executions?wait=600`, { language: "shell", code: "hang" });
  const stream = await api.client.raw("GET", `/executions/${id}/events`);
  const idle = connect(api.port, "127.0.0.1");
  await new Promise((resolve) => idle.once("connect", resolve));
  const reading = stream.text();
  while (api.executor.requests.length < 2) await Bun.sleep(1);
  const started = performance.now();
  await api.server.stop(5000);
  expect(performance.now() - started).toBeLessThan(2000);
  expect((await waiting).status).toBe(202);
  expect(await reading).not.toContain("event: end");
  expect(fetch(`${api.url}/healthz`)).rejects.toThrow();
  await api.stop();
});

test("stopping waits for no one longer than it may", async () => {
  const api = await startApi({
    change: ({ sessions }) => ({ sessions: Object.assign(Object.create(sessions), { get: () => Bun.sleep(60_000) }) }),
  });
  const stuck = api.client.get("/sessions/x").catch(() => "cut");
  await Bun.sleep(20);
  const started = performance.now();
  await api.server.stop(100);
  expect(performance.now() - started).toBeLessThan(1500);
  expect(await stuck).toBe("cut");
});

test("a port that is taken is said by the system's own code", async () => {
  const api = await startApi();
  const second = createServer(api.deps);
  expect(() => second.listen("127.0.0.1", api.port)).toThrow(expect.objectContaining({ code: "EADDRINUSE" }));
  await api.stop();
});
