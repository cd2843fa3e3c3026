import { afterAll, beforeAll, expect, test } from "bun:test";
import { Client } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";
import { heldBy, open, statusOf, until } from "./connections.ts";

let server: Server;
let client: Client;
let session: string;
beforeAll(async () => {
  server = await startServer();
  client = new Client(server.url);
  session = await client.session();
});
afterAll(() => server.stop());

async function answerTo(request: string): Promise<number | null> {
  const connection = await open(server.url);
  connection.send(request);
  const status = await Promise.race([statusOf(connection), Bun.sleep(20_000).then(() => -1)]);
  connection.end();
  return status;
}

test("headers of 64 KiB are refused, and those of 8 KiB are not", async () => {
  const before = await heldBy(server.process.pid);
  const withHeader = (bytes: number): string =>
    `GET /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nX-Large: ${"a".repeat(bytes)}\r\n\r\n`;
  expect(await answerTo(withHeader(8192))).toBe(200);
  for (let i = 0; i < 200; i++) expect(await answerTo(withHeader(64 * 1024))).toBe(431);
  const many = Array.from({ length: 2000 }, (_, i) => `X-${i}: ${"a".repeat(24)}`).join("\r\n");
  expect(await answerTo(`GET /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\n${many}\r\n\r\n`)).toBe(431);
  const path = `GET /api/v1/sessions?${"a".repeat(64 * 1024)} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
  expect(await answerTo(path)).toBe(431);
  expect((await heldBy(server.process.pid)).mib - before.mib).toBeLessThan(50);
  expect((await client.get("/sessions")).status).toBe(200);
}, 60_000);

const TOTAL = 20_000;
const AT_ONCE = 50;
const JSON_TYPE = "Content-Type: application/json";

/** A request of each kind that no client should send, and others that are broken in a way of their own. */
const BROKEN: ((n: number) => string)[] = [
  () => "\r\n\r\n",
  () => "GET\r\n\r\n",
  () => "GET / HTTP/9.9\r\n\r\n",
  () => "\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\r\n\r\n",
  () => `GET ${"/".repeat(3000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
  () => "GET /%ff%zz%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
  () => "GET /api/v1/sessions/%00/files/..%2f..%2fetc HTTP/1.1\r\nHost: localhost\r\n\r\n",
  () => "GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
  () => "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
  () => "POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
  () =>
    `POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\n${JSON_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n`,
  () => body('{"template_id":'),
  () => body("[".repeat(5000)),
  () => body("\u0000\u0001\u0002"),
  () => body('"\\ud800"'),
  (n) => body(JSON.stringify({ template_id: n, timeout: "x".repeat(n % 2000), env_vars: [n] })),
  (n) => body(JSON.stringify({ template_id: "x".repeat(n % 3000) })),
  (n) => body(JSON.stringify({ code: {}, language: String(n) }), `/api/v1/sessions/sess_${n}/executions`),
  (n) =>
    `GET /api/v1/executions/exec_${n}/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: ${"9".repeat(n % 400)}\r\n\r\n`,
  (n) => `BREW /api/v1/sessions/${n} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
  (n) => `GET /api/v1/sessions?limit=${n}x&offset=-${n} HTTP/1.1\r\nHost: evil-${n}.example\r\nOrigin: null\r\n\r\n`,
];

function body(text: string, path = "/api/v1/sessions"): string {
  return `POST ${path} HTTP/1.1\r\nHost: localhost\r\n${JSON_TYPE}\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
}

test(`${TOTAL} malformed requests leave memory flat and nothing behind`, async () => {
  const statuses = new Map<string, number>();
  const answered = (status: number | null): void => {
    const kind = status === null ? "closed" : String(status);
    statuses.set(kind, (statuses.get(kind) ?? 0) + 1);
  };
  let sent = 0;
  const sendUntil = async (total: number): Promise<void> => {
    const one = async (): Promise<void> => {
      while (sent < total) {
        const n = sent++;
        answered(await answerTo((BROKEN[n % BROKEN.length] ?? String)(n)));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
  };
  const mib: number[] = [];
  const start = await heldBy(server.process.pid);
  // The first tenth warms up what is made once.
  for (let tenth = 1; tenth <= 10; tenth++) {
    await sendUntil((TOTAL / 10) * tenth);
    mib.push((await heldBy(server.process.pid)).mib);
  }
  await until(
    "connections are given back",
    async () => (await heldBy(server.process.pid)).descriptors <= start.descriptors + 5,
  );
  process.stderr.write(
    `${TOTAL} malformed requests: ${JSON.stringify({ start, mib, statuses: Object.fromEntries(statuses) })}\n`,
  );
  // Each is refused as the client's fault; none stays without an answer.
  for (const status of statuses.keys()) expect(status).toMatch(/^(4\d\d|closed|505)$/);
  expect((mib.at(-1) ?? 0) - (mib[1] ?? 0)).toBeLessThan(40);
  expect(server.log.filter((line) => line.includes("http.failed"))).toEqual([]);
  expect(await client.run(session, "print(1)")).toMatchObject({ stdout: "1\n" });
  expect((await client.get("/sessions")).body["total"]).toBe(1);
}, 120_000);
