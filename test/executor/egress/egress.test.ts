import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { AuditLogs } from "../../../src/executor/egress/audit.ts";
import { rawJson } from "../../../src/json-text.ts";
import { TestExecutor } from "../fixture.ts";

const FETCH = `
import urllib.request, urllib.error
def handler(event):
    try:
        with urllib.request.urlopen(urllib.request.Request(event["url"], data=event.get("body", "").encode() or None), timeout=10) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as error:
        return [error.code, error.read().decode()]
    except OSError as error:
        return [0, str(error)]
`;

let executor: TestExecutor;
let origin: ReturnType<typeof Bun.serve>;

beforeAll(async () => {
  executor = await TestExecutor.start();
  origin = Bun.serve({
    hostname: "127.0.0.2",
    port: 0,
    fetch: async (request) => new Response(`got ${await request.text()}`),
  });
});
afterAll(async () => {
  await origin.stop(true);
  await executor.close();
});

function fetchIn(sandbox: string, url: string, body = "") {
  return executor.run(sandbox, FETCH, { event: rawJson({ url, body }) });
}

describe("a sandbox with network rules", () => {
  test("reaches what is listed, through the proxy alone, and every decision is in its audit log", async () => {
    const sandbox = await executor.sandbox({ network: { allow: [`127.0.0.2:${origin.port}`] } });
    const listed = `http://127.0.0.2:${origin.port}/`;
    expect((await fetchIn(sandbox, listed)).returned).toEqual([200, "got "]);
    const body = "x".repeat(300_000);
    expect((await fetchIn(sandbox, listed, body)).returned).toEqual([200, `got ${body}`]);
    expect((await fetchIn(sandbox, `http://127.0.0.3:${origin.port}/`)).returned).toEqual([
      403,
      "the session's network rules do not allow this\n",
    ]);
    expect((await fetchIn(sandbox, "http://example.com/")).returned).toEqual([403, expect.any(String)]);
    const audit = await executor.client.audit(sandbox);
    expect(audit.map(({ method, host, allowed }) => [method, host, allowed])).toEqual([
      ["GET", "example.com", false],
      ["GET", "127.0.0.3", false],
      ["POST", "127.0.0.2", true],
      ["GET", "127.0.0.2", true],
    ]);
    const direct = `import socket\nsocket.create_connection(("127.0.0.2", ${origin.port}), 2)`;
    expect((await executor.run(sandbox, direct)).outcome.status).toBe("failed");
  });

  test("gets its relay back when its own code ends it", async () => {
    const sandbox = await executor.sandbox({ network: { allow: [`127.0.0.2:${origin.port}`] } });
    const code = `import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if b"relay" in open(f"/proc/{pid}/cmdline", "rb").read(): os.kill(int(pid), signal.SIGKILL)
    except OSError: pass
import time, urllib.request
for _ in range(50):
    time.sleep(0.1)
    try:
        print(urllib.request.urlopen("http://127.0.0.2:${origin.port}/").read()); break
    except OSError: pass
else: raise SystemExit(1)`;
    expect((await executor.run(sandbox, code)).outcome.status).toBe("completed");
  });

  test("leaves no socket behind", async () => {
    const sandbox = await executor.sandbox({ network: { allow: ["example.com"] } });
    const before = readdirSync(`${executor.dataDir}/egress`).length;
    await executor.client.deleteSandbox(sandbox, { deleteWorkspace: true });
    expect(readdirSync(`${executor.dataDir}/egress`).length).toBe(before - 1);
  });

  test("is refused when a rule can't be read", async () => {
    expect(executor.sandbox({ network: { allow: ["http://example.com"] } })).rejects.toThrow("network.allow");
  });
});

test("an empty list is no way out", async () => {
  const sandbox = await executor.sandbox({ network: { allow: [] } });
  const ran = await executor.shell(
    sandbox,
    'echo "$HTTP_PROXY$https_proxy"; ls /.egress 2>&1; (echo > /dev/tcp/127.0.0.1/3128) 2>&1',
  );
  expect(ran.stdout).toContain("refused");
  expect(ran.stdout).not.toContain("http:");
  expect(await executor.client.audit(sandbox)).toEqual([]);
});

test("the audit log is bounded and keeps the newest", async () => {
  const logs = new AuditLogs(executor.dataDir);
  const decision = { at: "", method: "GET", host: "h".repeat(2000), address: null, allowed: false, reason: "" };
  for (let port = 1; port <= 1200; port++) logs.append("bounded", { ...decision, port });
  const kept = logs.read("bounded");
  expect(Bun.file(`${executor.dataDir}/audit/bounded.ndjson`).size).toBeLessThanOrEqual(1024 ** 2);
  expect(kept[0]?.port).toBe(1200);
  expect(kept.length).toBeGreaterThan(200);
});
