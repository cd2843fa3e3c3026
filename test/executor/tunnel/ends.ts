import { createHash } from "node:crypto";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import type { EgressDecision, NetworkRules } from "../../../src/executor/protocol.ts";
import { TunnelHub, type TunnelSocket } from "../../../src/executor/tunnel/hub.ts";
import { Tunnel } from "../../../src/executor/tunnel/tunnel.ts";
import { createLog } from "../../../src/log.ts";

export const TOKEN = "a token of this test alone, which is long";

/** The executor's end of tunnels behind a listener of its own. */
export class TunnelServer {
  readonly hub: TunnelHub;
  readonly log: string[] = [];
  readonly #server: Bun.Server<TunnelSocket>;

  constructor() {
    this.hub = new TunnelHub(createLog({ level: "debug", format: "text", write: (line) => void this.log.push(line) }));
    this.#server = Bun.serve<TunnelSocket>({
      hostname: "127.0.0.1",
      port: 0,
      fetch: (request, server) => {
        const use = new URL(request.url).searchParams.get("for") === "layers" ? "layers" : "sandbox";
        if (request.headers.get("authorization") !== `Bearer ${TOKEN}`) return new Response(null, { status: 401 });
        return server.upgrade(request, { data: { use, mux: null } }) ? undefined : new Response(null, { status: 400 });
      },
      websocket: this.hub.websocket,
    });
  }

  /** Tunnels that have come so far. */
  get opened(): number {
    return this.log.filter((line) => line.includes("tunnel.opened")).length;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#server.port}`;
  }

  close(): Promise<void> {
    return this.#server.stop(true);
  }
}

export type Opened = { tunnel: Tunnel; decisions: EgressDecision[] };

export async function openTunnel(
  url: string,
  rules: NetworkRules,
  token = TOKEN,
  nameable: readonly string[] | null = null,
): Promise<Opened> {
  const decisions: EgressDecision[] = [];
  const decided = (decision: EgressDecision): void => void decisions.push(decision);
  return { tunnel: await Tunnel.open({ url, token, use: "sandbox", rules, nameable, decided }), decisions };
}

/** A peer that agrees to a WebSocket and then does what a test wants with the bare connection. */
export class HostilePeer {
  readonly #server: Server;
  readonly #sockets: Socket[] = [];
  readonly received: Buffer[] = [];

  static async start(then: (socket: Socket) => void): Promise<HostilePeer> {
    const peer = new HostilePeer(then);
    await new Promise<void>((resolve) => peer.#server.listen(0, "127.0.0.1", resolve));
    return peer;
  }

  private constructor(then: (socket: Socket) => void) {
    this.#server = createServer((socket) => {
      this.#sockets.push(socket);
      socket.on("error", () => {});
      socket.once("data", (head) => {
        const key = /sec-websocket-key: (\S+)/i.exec(head.toString("latin1"))?.[1] ?? "";
        const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
        socket.on("data", (chunk: Buffer) => void this.received.push(chunk));
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
        );
        then(socket);
      });
    });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** A WebSocket message as a server sends it. */
export function message(payload: Buffer): Buffer {
  if (payload.length < 126) return Buffer.concat([Buffer.from([0x82, payload.length]), payload]);
  const head = Buffer.from([0x82, 126, 0, 0]);
  head.writeUInt16BE(payload.length, 2);
  return Buffer.concat([head, payload]);
}
