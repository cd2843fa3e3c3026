import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import type { Gateway } from "../../../src/executor/tunnel/gateway.ts";
import { MAX_STREAMS } from "../../../src/executor/tunnel/mux.ts";
import { openTunnel, TunnelServer, type Opened } from "./ends.ts";

const MEBIBYTE = 1024 ** 2;

/** Echoes, half-close included. */
let origin: Server;
let originPort = 0;
const origins = new Set<Socket>();
let executor: TunnelServer;
let gateway: Gateway;
let opened: Opened;

beforeAll(async () => {
  origin = createServer({ allowHalfOpen: true }, (socket) => {
    origins.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => origins.delete(socket));
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => origin.listen(0, "127.0.0.1", resolve));
  originPort = (origin.address() as AddressInfo).port;
  executor = new TunnelServer();
  gateway = await executor.hub.listen("sandbox", 0);
  opened = await openTunnel(executor.url, { allow: [`127.0.0.1:${originPort}`] });
});
afterAll(async () => {
  opened.tunnel.close();
  await gateway.close();
  await executor.close();
  for (const socket of origins) socket.destroy();
  origin.close();
});

/** A connection of a program to its proxy, with what it got. */
class Program {
  readonly socket: Socket;
  readonly chunks: Buffer[] = [];
  size = 0;
  readonly closed = Promise.withResolvers<void>();
  #news = Promise.withResolvers<void>();

  constructor(port = gateway.port) {
    this.socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    this.socket.on("data", (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.size += chunk.length;
      this.#news.resolve();
    });
    this.socket.on("end", () => this.socket.end());
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.closed.resolve();
      this.#news.resolve();
    });
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString("latin1");
  }

  async until(enough: () => boolean): Promise<void> {
    while (!enough() && !this.socket.closed) {
      this.#news = Promise.withResolvers<void>();
      await this.#news.promise;
    }
  }

  /** A tunnel of HTTP to the origin. */
  static async connected(to = `127.0.0.1:${originPort}`, port = gateway.port): Promise<Program> {
    const program = new Program(port);
    program.socket.write(`CONNECT ${to} HTTP/1.1\r\n\r\n`);
    await program.until(() => program.text.includes("\r\n\r\n"));
    program.chunks.length = program.size = 0;
    return program;
  }
}

function randomBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i += 65536) crypto.getRandomValues(bytes.subarray(i, Math.min(i + 65536, length)));
  return bytes;
}

function hash(bytes: Buffer): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}

describe("a tunnel", () => {
  test("carries what is allowed, byte for byte, and the end of it", async () => {
    const program = await Program.connected();
    const sent = randomBytes(8 * MEBIBYTE + 17);
    program.socket.end(sent);
    await program.closed.promise;
    expect(program.size).toBe(sent.length);
    expect(hash(Buffer.concat(program.chunks))).toBe(hash(sent));
  });

  test("refuses what is not, and says each decision", async () => {
    opened.decisions.length = 0;
    const program = new Program();
    program.socket.write("CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n");
    await program.closed.promise;
    expect(program.text).toStartWith("HTTP/1.1 403");
    expect(opened.decisions).toEqual([
      expect.objectContaining({ host: "127.0.0.1", port: 1, allowed: false, address: null }),
    ]);
  });

  test("refuses private addresses that no rule may name, also to a rule that names them", async () => {
    const own = new TunnelServer();
    const door = await own.hub.listen("sandbox", 0);
    const here = `127.0.0.1:${originPort}`;
    for (const [ranges, status] of [
      [[], 403],
      [["10.0.0.0/8", "::1/128"], 403],
      [["127.0.0.0/8"], 200],
    ] as const) {
      const { tunnel, decisions } = await openTunnel(own.url, { allow: [here] }, undefined, ranges);
      const program = new Program(door.port);
      program.socket.write(`CONNECT ${here} HTTP/1.1\r\n\r\n`);
      await program.until(() => program.text.includes("\r\n\r\n"));
      expect(program.text).toStartWith(`HTTP/1.1 ${status}`);
      expect(decisions[0]?.reason).toBe(status === 200 ? "listed address" : "the address is private or special");
      program.socket.destroy();
      tunnel.close();
      while (own.log.filter((line) => line.includes("tunnel.closed")).length < own.opened) await Bun.sleep(5);
    }
    await door.close();
    await own.close();
  });

  test("carries many connections at once, none of which waits for another", async () => {
    const stuck = await Program.connected();
    stuck.socket.pause();
    stuck.socket.write(randomBytes(4 * MEBIBYTE));
    const programs = await Promise.all(Array.from({ length: 40 }, () => Program.connected()));
    const texts = programs.map((program, i) => {
      program.socket.end(`program ${i}`.repeat(1000));
      return program.closed.promise.then(() => program.text);
    });
    expect(await Promise.all(texts)).toEqual(programs.map((_, i) => `program ${i}`.repeat(1000)));
    stuck.socket.destroy();
  });

  test("holds no more than windows for a program that does not read", async () => {
    const source = createServer((socket) => {
      socket.on("error", () => {});
      const fill = (): void => {
        while (socket.write(Buffer.alloc(65536)));
      };
      socket.on("drain", fill);
      fill();
    });
    await new Promise<void>((resolve) => source.listen(0, "127.0.0.1", resolve));
    const { port } = source.address() as AddressInfo;
    const own = new TunnelServer();
    const door = await own.hub.listen("sandbox", 0);
    const { tunnel } = await openTunnel(own.url, { allow: [`127.0.0.1:${port}`] });
    try {
      const before = process.memoryUsage.rss();
      const to = `127.0.0.1:${port}`;
      const programs = await Promise.all(Array.from({ length: 20 }, () => Program.connected(to, door.port)));
      for (const program of programs) program.socket.pause();
      await Bun.sleep(500);
      expect(process.memoryUsage.rss() - before).toBeLessThan(100 * MEBIBYTE);
      for (const program of programs) program.socket.destroy();
    } finally {
      tunnel.close();
      source.close();
      await door.close();
      await own.close();
    }
  });

  test("ends the connection at the origin when the program goes, and the program's when the origin does", async () => {
    const [one, two] = await Promise.all([Program.connected(), Program.connected()]);
    for (const program of [one, two]) {
      program.socket.write("x");
      await program.until(() => program.text === "x");
    }
    const before = origins.size;
    one.socket.destroy();
    while (origins.size >= before) await Bun.sleep(5);
    for (const socket of origins) socket.destroy();
    await two.closed.promise;
  });

  test("that another one follows hands new connections to it, and keeps its own", async () => {
    const old = await Program.connected();
    const next = await openTunnel(executor.url, { allow: [`127.0.0.1:${originPort}`] });
    const program = await Program.connected();
    expect(next.decisions).toHaveLength(1);
    for (const [one, text] of [
      [old, "old"],
      [program, "new"],
    ] as const) {
      one.socket.write(text);
      await one.until(() => one.text === text);
    }
    next.tunnel.close();
    await program.closed.promise;
    // Its end has come to the executor then, and new connections go through the first again.
    old.socket.end();
    await old.closed.promise;
  });

  test("is waited for by a connection that comes while there is none", async () => {
    const lone = new TunnelServer();
    const door = await lone.hub.listen("sandbox", 0);
    const program = new Program(door.port);
    program.socket.write(`CONNECT 127.0.0.1:${originPort} HTTP/1.1\r\n\r\n`);
    await Bun.sleep(50);
    const late = await openTunnel(lone.url, { allow: [`127.0.0.1:${originPort}`] });
    await program.until(() => program.text.includes("200"));
    expect(program.text).toStartWith("HTTP/1.1 200");
    late.tunnel.close();
    await program.closed.promise;
    await door.close();
    await lone.close();
  });

  test("that breaks takes its connections with it, and says why", async () => {
    const own = new TunnelServer();
    const door = await own.hub.listen("sandbox", 0);
    const { tunnel } = await openTunnel(own.url, { allow: [`127.0.0.1:${originPort}`] });
    const program = new Program(door.port);
    program.socket.write(`CONNECT 127.0.0.1:${originPort} HTTP/1.1\r\n\r\n`);
    await program.until(() => program.text.includes("200"));
    await own.close();
    expect(await tunnel.closed).toBeString();
    await program.closed.promise;
    await door.close();
  });

  test("needs the token", async () => {
    expect(openTunnel(executor.url, { allow: [] }, "another")).rejects.toThrow("401");
  });

  test("has no more connections at once than it may", async () => {
    const programs = await Promise.all(Array.from({ length: MAX_STREAMS }, () => Program.connected()));
    const more = new Program();
    await more.closed.promise;
    expect(more.text === "" || more.text.startsWith("HTTP/1.1 503")).toBe(true);
    for (const program of programs) program.socket.destroy();
    await Promise.all(programs.map((program) => program.closed.promise));
    const again = await Program.connected();
    again.socket.destroy();
  });
});
