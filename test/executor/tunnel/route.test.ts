import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { HttpExecutor } from "../../../src/executor/client.ts";
import { SPEC, TestExecutor } from "../fixture.ts";
import { LocalIndex } from "../local-index.ts";
import { openTunnel, TOKEN } from "./ends.ts";

let executor: TestExecutor;
let url = "";

beforeAll(async () => {
  executor = await TestExecutor.start({ listen: { hostname: "127.0.0.1", port: 0 }, token: TOKEN, isTunnelled: true });
  url = `http://127.0.0.1:${executor.executor.port}`;
});
afterAll(() => executor.close());

const UPGRADE = {
  Connection: "Upgrade",
  Upgrade: "websocket",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
};

/** The status that a bare request for a WebSocket is answered with. */
function ask(path: string, headers: Record<string, string>): Promise<string> {
  const answer = Promise.withResolvers<string>();
  const socket = connect(executor.executor.port, "127.0.0.1", () => {
    const fields = Object.entries({ Host: "x", ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`GET ${path} HTTP/1.1\r\n${fields.join("")}\r\n`);
  });
  socket.once("data", (data) => {
    answer.resolve(data.toString().split(" ")[1] ?? "");
    socket.destroy();
  });
  return answer.promise;
}

test("a tunnel is for the token's owner alone, and for a use that there is", async () => {
  const Authorization = `Bearer ${TOKEN}`;
  expect(await ask("/tunnel?for=sandbox", UPGRADE)).toBe("401");
  expect(await ask("/tunnel?for=sandbox", { ...UPGRADE, Authorization: `${Authorization}x` })).toBe("401");
  expect(await ask("/tunnel?for=anything", { ...UPGRADE, Authorization })).toBe("404");
  expect(await ask("/tunnel?for=sandbox", { Authorization })).toBe("400");
  expect(await ask("/tunnel?for=sandbox", { ...UPGRADE, Authorization })).toBe("101");
  const { tunnel } = await openTunnel(url, { allow: [] });
  tunnel.close();
});

test("there are no more of a use than there are reasons for", async () => {
  const opened = await Promise.all(Array.from({ length: 8 }, () => openTunnel(url, { allow: [] })));
  expect(openTunnel(url, { allow: [] })).rejects.toThrow("429");
  await openTunnel(url, { allow: [] }).catch(() => {});
  for (const { tunnel } of opened) tunnel.close();
});

test("an executor with a proxy of its own has none", async () => {
  const own = await TestExecutor.start({ listen: { hostname: "127.0.0.1", port: 0 }, token: TOKEN });
  try {
    expect(openTunnel(`http://127.0.0.1:${own.executor.port}`, { allow: [] })).rejects.toThrow("404");
    await openTunnel(`http://127.0.0.1:${own.executor.port}`, { allow: [] }).catch(() => {});
  } finally {
    await own.close();
  }
});

test("packages of an index that may not be reached are refused before anything is opened", async () => {
  const index = new LocalIndex("127.0.0.2");
  const client = new HttpExecutor({ url, token: TOKEN, indexUrl: "http://127.0.0.1:1/simple" });
  const request = { requirements: ["six"], indexUrl: index.url, imageUrl: SPEC.imageUrl, timeoutMs: 5000 };
  const refused = await client.ensureLayer(request).catch((error: unknown) => error);
  expect(refused).toMatchObject({
    code: "dependency_failed",
    message: "the package index is at an address that may not be reached",
  });
  expect(index.asked).toEqual([]);
  await index.close();
});
