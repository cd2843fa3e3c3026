import { afterEach, describe, expect, test } from "bun:test";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { encodeTunnelFrame, encodeWindow, FrameKind, WINDOW_BYTES } from "../../../src/executor/tunnel/frames.ts";
import { MAX_STREAMS } from "../../../src/executor/tunnel/mux.ts";
import { MAX_ALL_STREAMS } from "../../../src/executor/tunnel/tunnel.ts";
import { HostilePeer, message, openTunnel, type Opened } from "./ends.ts";

const MEBIBYTE = 1024 ** 2;
const { OPEN, DATA, END, RESET, WINDOW } = FrameKind;

const cleanups: (() => unknown)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).toReversed()) cleanup();
});

/** A tunnel to a peer that does this with its end of it. */
async function tunnelTo(then: (socket: Socket) => void, allow: string[] = []): Promise<Opened & { peer: HostilePeer }> {
  const peer = await HostilePeer.start(then);
  cleanups.push(() => peer.close());
  const opened = await openTunnel(peer.url, { allow });
  cleanups.push(() => opened.tunnel.close());
  return { ...opened, peer };
}

/** Why the tunnel ended after the peer sent these frames. */
async function endAfter(...frames: Buffer[]): Promise<string> {
  const { tunnel } = await tunnelTo((socket) => void socket.write(Buffer.concat(frames.map(message))));
  return tunnel.closed;
}

/** An origin that takes connections and never reads; how many it has had. */
async function silentOrigin(): Promise<{ port: number; sockets: Socket[] }> {
  const sockets: Socket[] = [];
  const server: Server = createServer({ pauseOnConnect: true }, (socket) => {
    socket.on("error", () => {});
    sockets.push(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, sockets };
}

const frame = (kind: FrameKind, stream: number, text = ""): Buffer =>
  encodeTunnelFrame(kind, stream, Buffer.from(text));

describe("a tunnel ends when its peer", () => {
  test.each<[string, Buffer[]]>([
    ["sends a frame without a stream", [Buffer.from([OPEN])]],
    ["sends a frame of no kind", [frame(9 as FrameKind, 1)]],
    ["opens with data", [frame(OPEN, 1, "data")]],
    ["sends data for a stream that it did not open", [frame(DATA, 1, "x")]],
    ["sends no data", [frame(OPEN, 1), frame(DATA, 1)]],
    ["opens a stream twice", [frame(OPEN, 1), frame(OPEN, 1)]],
    ["uses an old number again", [frame(OPEN, 5), frame(RESET, 5), frame(OPEN, 5)]],
    ["opens the stream 0", [frame(OPEN, 0)]],
    ["ends a stream twice", [frame(OPEN, 1), frame(END, 1), frame(END, 1)]],
    ["sends data after the end", [frame(OPEN, 1), frame(END, 1), frame(DATA, 1, "x")]],
    ["asks for more than a window", [frame(OPEN, 1), encodeWindow(1, 1)]],
    ["sends a window of a wrong size", [frame(OPEN, 1), frame(WINDOW, 1, "12345")]],
  ])("%s", async (_, frames) => {
    expect(await endAfter(...frames)).not.toBe("the connection was closed");
  });

  test("sends more than was asked for", async () => {
    const { port } = await silentOrigin();
    const { tunnel } = await tunnelTo(
      (socket) => {
        const data = Array.from({ length: 400 }, () => encodeTunnelFrame(DATA, 1, Buffer.alloc(32 * 1024)));
        const head = frame(DATA, 1, `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`);
        socket.write(Buffer.concat([frame(OPEN, 1), head, ...data].map(message)));
      },
      [`127.0.0.1:${port}`],
    );
    expect(await tunnel.closed).toBe("more data than was asked for");
  });

  test("sends many small frames instead of few large ones", async () => {
    const { port } = await silentOrigin();
    const { tunnel } = await tunnelTo(
      (socket) => {
        const head = frame(DATA, 1, `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`);
        const bytes = Array.from({ length: WINDOW_BYTES / 256 + 1 }, () => frame(DATA, 1, "x"));
        socket.write(Buffer.concat([frame(OPEN, 1), head, ...bytes].map(message)));
      },
      [`127.0.0.1:${port}`],
    );
    expect(await tunnel.closed).toBe("more data than was asked for");
  });

  test.each<[string, Buffer]>([
    ["sends an endless message", Buffer.from([0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0])],
    ["sends a long one", Buffer.from([0x82, 126, 0xff, 0xff])],
    ["sends a masked one", Buffer.from([0x82, 0x81, 0, 0, 0, 0, 0])],
    ["sends text", Buffer.from([0x81, 1, 65])],
    ["sends fragments", Buffer.from([0x02, 1, 65])],
    ["sends compressed ones", Buffer.from([0xc2, 1, 65])],
    ["sends a large ping", Buffer.from([0x89, 126, 0x40, 0])],
    ["says goodbye", Buffer.from([0x88, 0])],
  ])("%s", async (_, bytes) => {
    const { tunnel } = await tunnelTo((socket) => void socket.write(bytes));
    expect(await tunnel.closed).toMatch(/WebSocket frame|the executor ended it/);
  });

  test("pings without end and reads no answer", async () => {
    const ping = Buffer.concat([Buffer.from([0x89, 125]), Buffer.alloc(125)]);
    const pings = Buffer.concat(Array.from({ length: 500 }, () => ping));
    const { tunnel } = await tunnelTo((socket) => {
      const flood = (): void => {
        while (!socket.destroyed && socket.write(pings));
      };
      socket.pause();
      socket.on("drain", flood);
      flood();
    });
    expect(await tunnel.closed).toBe("the executor does not take what it is sent");
  });
});

describe("a peer can't", () => {
  test("reach what is not allowed, whatever it sends", async () => {
    const { port, sockets } = await silentOrigin();
    const { tunnel, decisions } = await tunnelTo(
      (socket) => {
        const asks = [
          `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`,
          `GET http://127.0.0.1:${port}/ HTTP/1.1\r\n\r\n`,
          "\0",
        ];
        for (const [i, ask] of asks.entries())
          socket.write(Buffer.concat([message(frame(OPEN, i + 1)), message(frame(DATA, i + 1, ask))]));
      },
      ["example.com"],
    );
    while (decisions.length < 2) await Bun.sleep(5);
    expect(decisions.every((decision) => !decision.allowed)).toBe(true);
    expect(sockets).toEqual([]);
    tunnel.close();
  });

  test("have more streams at once than it may", async () => {
    const { peer, tunnel } = await tunnelTo((socket) => {
      const opens = Array.from({ length: MAX_STREAMS + 10 }, (_, i) => message(frame(OPEN, i + 1)));
      socket.write(Buffer.concat(opens));
    });
    const resets = (): number => Buffer.concat(peer.received).length / 11;
    while (resets() < 10) await Bun.sleep(5);
    // Each is a masked message of one RESET.
    expect(resets()).toBe(10);
    tunnel.close();
  });

  test("take all connections from others, together with others of its kind", async () => {
    const opens = Array.from({ length: MAX_STREAMS }, (_, i) => message(frame(OPEN, i + 1)));
    const greedy = (socket: Socket): void => void socket.write(Buffer.concat(opens));
    const all = await Promise.all(Array.from({ length: MAX_ALL_STREAMS / MAX_STREAMS }, () => tunnelTo(greedy)));
    // Each RESET is a masked message of eleven bytes.
    const resets = (peer: HostilePeer): number => Buffer.concat(peer.received).length / 11;
    const late = await tunnelTo(greedy);
    while (resets(late.peer) < MAX_STREAMS - 4) await Bun.sleep(5);
    expect(resets(late.peer)).toBe(MAX_STREAMS - 4);
    for (const { tunnel } of [...all, late]) tunnel.close();
  });

  test("open connections without end, one after the other", async () => {
    let sent = 0;
    const { tunnel, decisions } = await tunnelTo((socket) => {
      const flood = (): void => {
        for (let wants = true; wants && !socket.destroyed;) {
          const ask = `CONNECT example.com:${(sent % 60_000) + 1} HTTP/1.1\r\n\r\n`;
          sent += 1;
          const frames = [frame(OPEN, sent), frame(DATA, sent, ask), ...(sent > 32 ? [frame(RESET, sent - 32)] : [])];
          wants = socket.write(Buffer.concat(frames.map(message)));
        }
      };
      socket.on("drain", flood);
      flood();
    });
    const startedMs = performance.now();
    while (decisions.length < 150) await Bun.sleep(5);
    // A hundred are the credit, and fifty more take a second, however fast they are sent.
    expect(performance.now() - startedMs).toBeGreaterThan(800);
    tunnel.close();
  });

  test("leave connections behind by going while they are made", async () => {
    const { port, sockets } = await silentOrigin();
    const count = 40;
    const { tunnel, decisions } = await tunnelTo(
      (socket) => {
        for (let i = 1; i <= count; i++) {
          const ask = `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`;
          const frames = [frame(OPEN, i), frame(DATA, i, ask), frame(RESET, i)];
          socket.write(Buffer.concat(frames.map(message)));
        }
      },
      [`127.0.0.1:${port}`],
    );
    while (decisions.length < count) await Bun.sleep(5);
    // One that stays is made after all of them.
    const last = await tunnelTo(
      (socket) => {
        const ask = `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`;
        socket.write(Buffer.concat([message(frame(OPEN, 1)), message(frame(DATA, 1, ask))]));
      },
      [`127.0.0.1:${port}`],
    );
    const open = (): number => sockets.filter((socket) => !socket.resume().destroyed).length;
    const end = performance.now() + 3000;
    while ((open() !== 1 || last.peer.received.length === 0) && performance.now() < end) await Bun.sleep(5);
    expect(open()).toBe(1);
    tunnel.close();
  });

  test("have the memory grow by not reading", async () => {
    const source = createServer((socket) => {
      socket.on("error", () => {});
      const fill = (): void => {
        while (socket.write(Buffer.alloc(65536)));
      };
      socket.on("drain", fill);
      fill();
    });
    await new Promise<void>((resolve) => source.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => source.close());
    const { port } = source.address() as AddressInfo;
    const before = process.memoryUsage.rss();
    const { tunnel } = await tunnelTo(
      (socket) => {
        socket.pause();
        for (let i = 1; i <= MAX_STREAMS; i++) {
          const ask = frame(DATA, i, `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`);
          socket.write(Buffer.concat([message(frame(OPEN, i)), message(ask)]));
        }
      },
      [`127.0.0.1:${port}`],
    );
    await Promise.race([tunnel.closed, Bun.sleep(1000)]);
    expect(process.memoryUsage.rss() - before).toBeLessThan(150 * MEBIBYTE);
    tunnel.close();
  });

  test("have it wait for ever for an answer", async () => {
    const server = createServer(() => {});
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    const outcome = await openTunnel(`http://127.0.0.1:${port}`, { allow: [] }).catch((error: unknown) => error);
    expect(outcome).toMatchObject({ message: "no answer in time" });
  });

  test.each([
    ["something else", "HTTP/1.1 200 OK\r\n\r\n"],
    ["with a wrong key", "HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: AAAA\r\n\r\n"],
    ["without an end", "x".repeat(9000)],
  ])("pass for an executor by answering %s", async (_, answer) => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.write(answer));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    const outcome = await openTunnel(`http://127.0.0.1:${port}`, { allow: [] }).catch((error: unknown) => error);
    expect(outcome).toBeInstanceOf(Error);
  });
});
