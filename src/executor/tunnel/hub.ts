import type { WebSocketHandler } from "bun";
import { AppError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { MAX_FRAME_BYTES, WINDOW_BYTES } from "./frames.ts";
import { Gateway } from "./gateway.ts";
import { MAX_STREAMS, Mux } from "./mux.ts";
import type { TunnelStream } from "./stream.ts";

/** What connections of a tunnel are for: a session's own code, or the installation of its packages. */
export const TUNNEL_USES = ["sandbox", "layers"] as const;
export type TunnelUse = (typeof TUNNEL_USES)[number];

/** What a WebSocket of the control plane is here. */
export type TunnelSocket = { use: TunnelUse; mux: Mux | null };

/** How long a connection waits for a tunnel: until another replica has taken over from one that died. */
const PATIENCE_MS = 30_000;
/** Replicas that may hold a tunnel of a use at the same time, while one takes over from the other. */
const MAX_TUNNELS = 8;
const SILENCE_S = 20;

/** The executor's end of tunnels. The control plane opens them; the newest of a use carries its new connections. */
export class TunnelHub {
  readonly #log: Log;
  readonly #tunnels: Record<TunnelUse, Mux[]> = { sandbox: [], layers: [] };
  /** What wakes the connections that wait for a tunnel: at most what the gateways let in. */
  readonly #waiting = new Set<() => void>();
  readonly websocket: WebSocketHandler<TunnelSocket>;

  constructor(log: Log) {
    this.#log = log;
    this.websocket = {
      perMessageDeflate: false,
      maxPayloadLength: MAX_FRAME_BYTES,
      idleTimeout: SILENCE_S,
      backpressureLimit: 2 * MAX_STREAMS * WINDOW_BYTES,
      closeOnBackpressureLimit: true,
      open: (socket) => this.#opened(socket),
      message: (socket, message) => this.#took(socket, message),
      close: (socket) => this.#closed(socket.data),
    };
  }

  /** A proxy on loopback whose connections go through tunnels of this use. `port` 0: any free one. */
  listen(use: TunnelUse, port: number): Promise<Gateway> {
    return Gateway.listen(port, () => this.#open(use));
  }

  /** Throws `queue_full` when there are more tunnels of this use than there are reasons for. */
  checkRoom(use: TunnelUse): void {
    if (this.#tunnels[use].length >= MAX_TUNNELS) throw new AppError("queue_full", "there are too many tunnels");
  }

  /** A stream of the newest tunnel; null when none came in time, or all of its streams are taken. */
  async #open(use: TunnelUse): Promise<TunnelStream | null> {
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      const newest = this.#tunnels[use].at(-1);
      if (newest !== undefined) return newest.open();
      const leftMs = end - performance.now();
      if (leftMs <= 0) return null;
      const news = Promise.withResolvers<void>();
      const timer = setTimeout(news.resolve, leftMs);
      this.#waiting.add(news.resolve);
      await news.promise;
      this.#waiting.delete(news.resolve);
      clearTimeout(timer);
    }
  }

  #opened(socket: Bun.ServerWebSocket<TunnelSocket>): void {
    const mux = new Mux({ send: (message) => void socket.sendBinary(message) });
    socket.data.mux = mux;
    this.#tunnels[socket.data.use].push(mux);
    this.#log.info("tunnel.opened", { use: socket.data.use });
    for (const wake of this.#waiting) wake();
  }

  #took(socket: Bun.ServerWebSocket<TunnelSocket>, message: string | Buffer): void {
    try {
      socket.data.mux?.take(Buffer.from(message));
    } catch (error) {
      this.#log.warn("tunnel.broken", { use: socket.data.use, error });
      socket.terminate();
    }
  }

  #closed({ use, mux }: TunnelSocket): void {
    if (mux === null) return;
    mux.close();
    const place = this.#tunnels[use].indexOf(mux);
    if (place >= 0) this.#tunnels[use].splice(place, 1);
    this.#log.info("tunnel.closed", { use });
  }
}
