import { expect, test } from "bun:test";
import { HttpExecutor } from "../../src/executor/client.ts";
import { SPEC } from "./fixture.ts";
import { FILE_HANDLE } from "../../src/executor/protocol.ts";

test("an executor in a Pod can't have a file of this host read", async () => {
  const headers = { [FILE_HANDLE]: `${import.meta.path} 0 100` };
  using hostile = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => new Response("its own", { headers }),
  });
  const executor = new HttpExecutor({
    url: `http://127.0.0.1:${hostile.port}`,
    token: "x",
    indexUrl: "http://index.invalid",
  });
  const { body } = await executor.readFile("s", "file", "GET", new Headers());
  expect(await new Response(body).text()).toBe("its own");
});

test("an executor that never stops answering is left", async () => {
  let sent = 0;
  const block = new Uint8Array(1024 ** 2).fill(32);
  const pull = (out: ReadableStreamDefaultController<Uint8Array>): void => {
    if (sent++ < 400) out.enqueue(block);
    else out.close();
  };
  using hostile = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => new Response(new ReadableStream({ pull })),
  });
  const executor = new HttpExecutor({
    url: `http://127.0.0.1:${hostile.port}`,
    token: "x",
    indexUrl: "http://index.invalid",
  });
  const error = await executor.health().catch((one: unknown) => one);
  expect(error).toMatchObject({ code: "executor_unavailable" });
  expect(sent).toBeLessThan(200);
});

test.each<[string, (executor: HttpExecutor) => Promise<unknown>, number]>([
  ["the sandboxes", (executor) => executor.listSandboxes(), 12],
  ["a made sandbox", (executor) => executor.createSandbox("s", SPEC), 4],
  ["the files", (executor) => executor.listFiles("s", "", { recursive: true, limit: 10 }), 5],
  ["the workspace", (executor) => executor.tree("s", { known: null, maxBytes: 1 }), 20],
  ["the output", (executor) => executor.output("e"), 140],
  ["the audit log", (executor) => executor.audit("s"), 12],
  ["that it was cancelled", (executor) => executor.cancel("e"), 4],
])("an answer about %s has its limit", async (_, call, mostMebibytes) => {
  let sent = 0;
  const block = new Uint8Array(1024 ** 2).fill(32);
  const pull = (out: ReadableStreamDefaultController<Uint8Array>): void => {
    if (sent++ < 1000) out.enqueue(block);
    else out.close();
  };
  using hostile = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => new Response(new ReadableStream({ pull }, { highWaterMark: 0 })),
  });
  const executor = new HttpExecutor({
    url: `http://127.0.0.1:${hostile.port}`,
    token: "x",
    indexUrl: "http://index.invalid",
  });
  await call(executor).catch((error: unknown) => expect(error).toMatchObject({ code: "executor_unavailable" }));
  expect(sent).toBeLessThan(mostMebibytes + 12);
});

test("no more files are taken than were asked for", async () => {
  using hostile = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => Response.json(Array.from({ length: 50 }, () => ({}))),
  });
  const executor = new HttpExecutor({
    url: `http://127.0.0.1:${hostile.port}`,
    token: "x",
    indexUrl: "http://index.invalid",
  });
  expect(await executor.listFiles("s", "", { recursive: true, limit: 10 })).toHaveLength(10);
});

test.each<[string, string, Record<string, string>]>([
  ["of many objects", `[${"{},".repeat(300_000)}{}]`, {}],
  ["that is compressed", "[]", { "Content-Encoding": "gzip" }],
])("an answer %s is not taken", async (_, text, headers) => {
  const body = "Content-Encoding" in headers ? Bun.gzipSync(text) : text;
  using hostile = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(body, { headers }) });
  const executor = new HttpExecutor({
    url: `http://127.0.0.1:${hostile.port}`,
    token: "x",
    indexUrl: "http://index.invalid",
  });
  const error = await executor.listSandboxes().catch((one: unknown) => one);
  expect(error).toMatchObject({ code: "executor_unavailable" });
});

test("an executor whose host is gone without a word is noticed while a program is silent", async () => {
  let isGone = false;
  const never = new Promise<Response>(() => {});
  const line = Buffer.from('1 status {"status":"pending","at":"2025-01-01T00:00:00.000Z"}\n');
  using vanishing = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    fetch: ({ url }) => {
      if (isGone) return never;
      if (url.endsWith("/health")) return Response.json({});
      return new Response(new ReadableStream({ start: (out) => out.enqueue(line) }));
    },
  });
  const executor = new HttpExecutor({
    url: `http://127.0.0.1:${vanishing.port}`,
    token: "x",
    indexUrl: "http://index.invalid",
  });
  const reader = (await executor.journal("e", 0)).getReader();
  expect((await reader.read()).value).toEqual(new Uint8Array(line));
  const more = reader.read().catch((error: unknown) => error);
  expect(await Promise.race([more, Bun.sleep(2500).then(() => "silent")])).toBe("silent");
  isGone = true;
  expect(await more).toMatchObject({ code: "executor_unavailable" });
  expect(await executor.journal("e", 0).catch((error: unknown) => error)).toMatchObject({
    code: "executor_unavailable",
  });
}, 20_000);
