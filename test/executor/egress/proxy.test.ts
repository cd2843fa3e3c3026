import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { AllowList } from "../../../src/executor/egress/allow-list.ts";
import { EgressProxy } from "../../../src/executor/egress/proxy.ts";
import type { EgressDecision } from "../../../src/executor/protocol.ts";

/** An origin that answers every connection with what it was sent, and counts connections. */
let origin: Server;
let originPort = 0;
let dials = 0;
let received = "";
let dir = "";
let proxy: EgressProxy;
let decisions: EgressDecision[] = [];
let resolutions = 0;

beforeAll(async () => {
  dir = await mkdtemp("/tmp/egress-test-");
  origin = createServer((socket) => {
    dials++;
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
      socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    });
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => origin.listen(0, "127.0.0.1", resolve));
  originPort = (origin.address() as { port: number }).port;
  const addresses: Record<string, string[]> = { "rebind.example": ["169.254.169.254"], "ok.example": ["127.0.0.1"] };
  proxy = new EgressProxy({
    allow: new AllowList([`ok.example:${originPort}`, `rebind.example:${originPort}`, `127.0.0.1:${originPort}`]),
    decided: (decision) => decisions.push(decision),
    resolve: (name) => {
      resolutions++;
      return Promise.resolve(addresses[name] ?? []);
    },
  });
  await proxy.listen(`${dir}/proxy`);
});
afterAll(async () => {
  await proxy.close();
  origin.close();
  await rm(dir, { recursive: true });
});
beforeEach(() => {
  decisions = [];
  dials = resolutions = 0;
  received = "";
});

function say(text: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connect(`${dir}/proxy`, () => socket.write(text, "latin1"));
    socket.on("data", (chunk) => (answer += chunk.toString("latin1")));
    socket.on("close", () => resolve(answer));
    socket.on("error", () => resolve(answer));
  });
}

describe("what is let through", () => {
  test("an absolute request, with Host made from its target and hop-by-hop fields gone", async () => {
    const answer = await say(
      `GET http://OK.example:${originPort}/a?b HTTP/1.1\r\nHost: other.example\r\nProxy-Authorization: x\r\nX-Kept: 1\r\n\r\n`,
    );
    expect(answer).toEndWith("hi");
    expect(received).toBe(
      `GET /a?b HTTP/1.1\r\nhost: ok.example:${originPort}\r\nx-kept: 1\r\nconnection: close\r\n\r\n`,
    );
    expect(resolutions).toBe(1);
    expect(decisions).toEqual([
      expect.objectContaining({ method: "GET", host: "ok.example", address: "127.0.0.1", allowed: true }),
    ]);
  });

  test("a tunnel", async () => {
    const answer = await say(`CONNECT ok.example:${originPort} HTTP/1.1\r\n\r\nthrough`);
    expect(answer).toStartWith("HTTP/1.1 200");
    expect(answer).toEndWith("hi");
    expect(received).toBe("through");
  });

  test("a body, and not one byte more", async () => {
    await say(
      `POST http://ok.example:${originPort}/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET http://evil/ HTTP/1.1\r\n\r\n`,
    );
    expect(received).toEndWith("\r\n\r\nabc");
  });
});

describe("what is refused without a dial", () => {
  test.each([
    ["a name that is not listed", () => `CONNECT evil.example:${originPort} HTTP/1.1\r\n\r\n`, 403],
    ["another port", () => "CONNECT ok.example:22 HTTP/1.1\r\n\r\n", 403],
    ["a name that leads to the metadata service", () => `CONNECT rebind.example:${originPort} HTTP/1.1\r\n\r\n`, 403],
    ["NUL in the name", () => `CONNECT ok.example\0.evil:${originPort} HTTP/1.1\r\n\r\n`, 400],
    ["short IPv4", () => `CONNECT 127.1:${originPort} HTTP/1.1\r\n\r\n`, 400],
    ["decimal IPv4", () => `CONNECT 2130706433:${originPort} HTTP/1.1\r\n\r\n`, 400],
    ["user info", () => `GET http://ok.example@evil.example/ HTTP/1.1\r\n\r\n`, 400],
    ["backslash", () => `GET http://evil.example\\@ok.example:${originPort}/ HTTP/1.1\r\n\r\n`, 400],
    ["origin form", () => "GET / HTTP/1.1\r\nHost: ok.example\r\n\r\n", 400],
    ["two Hosts", () => `GET http://ok.example:${originPort}/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n`, 400],
    [
      "two lengths",
      () => `GET http://ok.example:${originPort}/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n`,
      400,
    ],
    [
      "a transfer encoding",
      () => `POST http://ok.example:${originPort}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n`,
      411,
    ],
    ["a folded field", () => `GET http://ok.example:${originPort}/ HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n`, 400],
    ["a bare newline", () => `GET http://ok.example:${originPort}/ HTTP/1.1\r\nA: b\nHost: evil\r\n\r\n`, 400],
    ["https in absolute form", () => `GET https://ok.example:${originPort}/ HTTP/1.1\r\n\r\n`, 400],
    ["a head without an end", () => `GET http://ok.example/${"a".repeat(20_000)}`, 431],
  ])("%s", async (_name, request, status) => {
    expect(await say(request())).toStartWith(`HTTP/1.1 ${status} `);
    expect(dials).toBe(0);
    expect(decisions.every((one) => !one.allowed)).toBe(true);
  });
});

describe("names that nobody answers for", () => {
  test("are looked up by so many connections at once, and the others refused", async () => {
    const refused: EgressDecision[] = [];
    const endless = Promise.withResolvers<string[]>();
    let asked = 0;
    const own = new EgressProxy({
      allow: new AllowList(["*.slow.example"]),
      decided: (decision) => refused.push(decision),
      resolve: () => (asked++, endless.promise),
    });
    await own.listen(`${dir}/slow`);
    // Those that go do not make room.
    for (let i = 0; i < 70; i++)
      connect(`${dir}/slow`)
        .on("error", () => {})
        .end(`CONNECT n${i}.slow.example:80 HTTP/1.1\r\n\r\n`);
    while (refused.length < 6) await Bun.sleep(5);
    expect([asked, refused.length]).toEqual([64, 6]);
    endless.resolve([]);
    await own.close();
  });

  test("hold up no access to files", async () => {
    expect(await said(import.meta.resolve("./silent-name-server.ts"))).toBe("read\n");
  });
});

test("names are looked up where the system says now", async () => {
  expect(await said(import.meta.resolve("./moved-name-server.ts"))).toBe("9.9.9.9, 8.8.8.8\n");
});

/** What a program says on a network of its own, where 127.0.0.9 is the name server. */
async function said(script: string): Promise<string> {
  await Bun.write(`${dir}/resolv.conf`, "nameserver 127.0.0.9\n");
  const words = ["--dev-bind", "/", "/", "--bind", `${dir}/resolv.conf`, await realpath("/etc/resolv.conf")];
  const program = [process.execPath, new URL(script).pathname];
  const run = Bun.spawn(["bwrap", ...words, "--unshare-net", "--", ...program], { stderr: "inherit" });
  return new Response(run.stdout).text();
}
