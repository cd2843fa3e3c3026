import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Client } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { heldBy, open, statusOf, type Connection } from "./connections.ts";

/** Seconds; the service's own is 30. */
const PATIENCE_S = 2;
const SLOW = 300;

let server: Server;
let client: Client;
let session: string;
beforeAll(async () => {
  server = await startServer({ env: { BODY_TIMEOUT_SECONDS: String(PATIENCE_S) } });
  client = new Client(server.url);
  session = await client.session();
});
afterAll(() => server.stop());

const head = (method: string, path: string, ...headers: string[]): string =>
  [`${method} /api/v1${path} HTTP/1.1`, "Host: localhost", ...headers, "", ""].join("\r\n");

/** Sends a byte now and then until an answer or the end of the connection comes; how long it was open, in seconds. */
async function trickle(connection: Connection, everyMs: number, limitS: number): Promise<number> {
  const startedMs = performance.now();
  const openS = (): number => (performance.now() - startedMs) / 1000;
  while (connection.bytes === 0 && !connection.isClosed && openS() < limitS) {
    connection.send("a");
    await Promise.race([Bun.sleep(everyMs), connection.closed]);
  }
  return openS();
}

describe("requests that trickle in", () => {
  test(`${SLOW} of them cost little, disturb nobody and are ended`, async () => {
    const before = await heldBy(server.process.pid);
    const connections = await Promise.all(Array.from({ length: SLOW }, () => open(server.url)));
    const unfinished = `GET /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nX-Slow: `;
    for (const connection of connections) connection.send(unfinished);
    const slow = Promise.all(connections.map((connection) => trickle(connection, 500, 30)));
    const times: number[] = [];
    let isOver = false;
    void slow.then(() => (isOver = true));
    let during = before;
    while (!isOver) {
      const startedMs = performance.now();
      expect(await client.run(session, "print(1)")).toMatchObject({ stdout: "1\n" });
      times.push(performance.now() - startedMs);
      during = await heldBy(server.process.pid);
      await Bun.sleep(100);
    }
    const open_s = (await slow).toSorted((a, b) => a - b);
    const median_ms = times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)];
    const figures = { before, during, open_s: [open_s[0], open_s.at(-1)], others_median_ms: median_ms };
    process.stderr.write(`${SLOW} slow headers: ${JSON.stringify(figures)}\n`);
    expect(connections.every(({ isClosed }) => isClosed)).toBe(true);
    expect(open_s.at(-1)).toBeLessThan(20);
    expect(during.mib - before.mib).toBeLessThan(50);
    expect(median_ms).toBeLessThan(500);
    expect((await heldBy(server.process.pid)).descriptors).toBeLessThan(before.descriptors + 20);
  }, 60_000);

  const json = "Content-Type: application/json";
  const slowBodies: [what: string, head: () => string][] = [
    ["JSON", () => head("POST", "/sessions", json, "Content-Length: 100")],
    ["large JSON", () => head("POST", "/sessions", json, "Content-Length: 1000000")],
    ["JSON of unknown length", () => head("POST", "/sessions", json, "Transfer-Encoding: chunked") + "fffff\r\n"],
    ["a file", () => head("PUT", `/sessions/${session}/files/slow`, "Content-Length: 1000000")],
    [
      "a form",
      () =>
        head(
          "POST",
          `/sessions/${session}/files/upload`,
          "Content-Type: multipart/form-data; boundary=b",
          "Content-Length: 1000000",
        ),
    ],
  ];
  test.each(slowBodies)(
    "the body of %s is answered 408 and the connection closed",
    async (_, begin) => {
      const connection = await open(server.url);
      connection.send(begin());
      const openS = await trickle(connection, 300, 30);
      expect(await statusOf(connection)).toBe(408);
      expect(connection.received).toContain('"code":"request_timeout"');
      expect(openS).toBeGreaterThan(PATIENCE_S - 0.5);
      expect(openS).toBeLessThan(PATIENCE_S + 5);
      await connection.closed;
      expect((await client.get(`/sessions/${session}/files`)).body["count"]).toBe(0);
    },
    40_000,
  );

  test("a body that stops is answered the same", async () => {
    const connection = await open(server.url);
    connection.send(head("PUT", `/sessions/${session}/files/stopped`, "Content-Length: 1000000"));
    connection.send(new Uint8Array(500_000));
    expect(await statusOf(connection)).toBe(408);
    expect((await client.get(`/sessions/${session}/files`)).body["count"]).toBe(0);
  }, 30_000);

  test("a client that leaves in the middle of its body leaves nothing behind, and is no fault in the log", async () => {
    for (const path of [`/sessions/${session}/files/left`, "/sessions"]) {
      const connection = await open(server.url);
      connection.send(head(path === "/sessions" ? "POST" : "PUT", path, json, "Content-Length: 1000000"));
      connection.send(new Uint8Array(70_000));
      await Bun.sleep(100);
      connection.end();
      await connection.closed;
    }
    while (server.log.filter((line) => line.includes('"status":400')).length < 2) await Bun.sleep(20);
    expect(server.log.filter((line) => line.includes("http.failed"))).toEqual([]);
    expect((await client.get(`/sessions/${session}/files`)).body["count"]).toBe(0);
  }, 20_000);

  test("a slow but steady upload arrives, for longer than the patience", async () => {
    const connection = await open(server.url);
    const pieces = 20;
    connection.send(head("PUT", `/sessions/${session}/files/steady`, `Content-Length: ${pieces * 10_000}`));
    for (let i = 0; i < pieces; i++) {
      connection.send(new Uint8Array(10_000));
      await Bun.sleep((PATIENCE_S * 2000) / pieces);
    }
    expect(await statusOf(connection)).toBe(201);
  }, 30_000);
});
