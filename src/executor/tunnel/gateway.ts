import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import type { WayOut } from "../egress/egress.ts";
import { MAX_STREAMS } from "./mux.ts";
import type { TunnelStream } from "./stream.ts";

/** A stream of a tunnel; null when there is none to be had. */
type OpenStream = () => Promise<TunnelStream | null>;

const REFUSAL = "HTTP/1.1 503 Refused\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const LOOPBACK = "127.0.0.1";

/** A port of this Pod's loopback whose connections are carried as they are: the control plane's proxy answers them. */
export class Gateway implements WayOut {
  readonly dir = null;
  readonly port: number;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  /** Throws what the bind threw. */
  static async listen(port: number, open: OpenStream): Promise<Gateway> {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => sockets.delete(socket));
      void carry(socket, open);
    });
    server.maxConnections = MAX_STREAMS;
    const ready = Promise.withResolvers<void>();
    server.once("error", ready.reject);
    server.listen(port, LOOPBACK, ready.resolve);
    await ready.promise;
    return new Gateway(server, sockets);
  }

  private constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server;
    this.#sockets = sockets;
    this.port = (server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => closed.resolve());
    await closed.promise;
  }
}

async function carry(socket: Socket, open: OpenStream): Promise<void> {
  const stream = await open();
  if (stream === null) return void socket.end(REFUSAL);
  stream.on("close", () => socket.destroySoon());
  socket.on("close", () => stream.destroy());
  if (socket.destroyed) return void stream.destroy();
  socket.pipe(stream);
  stream.pipe(socket);
}
