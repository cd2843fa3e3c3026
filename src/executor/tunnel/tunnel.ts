import { setTimeout as delay } from "node:timers/promises";
import type { Socket } from "node:net";
import { AllowList } from "../egress/allow-list.ts";
import { EgressProxy } from "../egress/proxy.ts";
import type { EgressDecision, NetworkRules } from "../protocol.ts";
import { FrameKind, WINDOW_BYTES } from "./frames.ts";
import type { TunnelUse } from "./hub.ts";
import { MAX_STREAMS, Mux } from "./mux.ts";
import { clientMessage, clientPing, clientPong, MessageReader, upgrade } from "./websocket.ts";

export type TunnelOptions = {
  /** The executor, such as http://10.0.0.1:8700, and its token. */
  url: string;
  token: string;
  use: TunnelUse;
  /** What its connections may reach. */
  rules: NetworkRules;
  /** Ranges of the private and special addresses that rules may name; null: all. */
  nameable: readonly string[] | null;
  /** Called for every decision. */
  decided(decision: EgressDecision): void;
};

const UPGRADE_MS = 3000;
const PING_MS = 5000;
/** An executor that says nothing for so long, not even that it lives, is gone. */
const SILENCE_MS = 20_000;
/** What waits to be sent at most: each stream's window, and some frames without data. */
const MAX_UNSENT_BYTES = MAX_STREAMS * WINDOW_BYTES + 1024 ** 2;
/**
 * What each frame costs its sender: so many milliseconds of not being read, once CREDIT_MS are used up. A new connection costs
 * OPEN_MS, which allows 50 a second in the long run.
 */
const OPEN_MS = 20;
const FRAME_MS = 0.02;
const CREDIT_MS = 2000;
/** How far a pause brings the debt below the credit, so that pauses are few. */
const PAYMENT_MS = 20;
const NOTHING = Buffer.alloc(0);
/** Connections that all tunnels of this process carry together: bounds what they may hold of its memory. */
export const MAX_ALL_STREAMS = 1024;
/** Connections of each tunnel that are carried past MAX_ALL_STREAMS, up to twice that many of all. */
const OWN_STREAMS = 4;
let allStreams = 0;

/**
 * The control plane's end of a tunnel: it dials the executor in a Pod, and what programs there ask of their proxy is read,
 * decided, dialled and carried here. The Pod is not trusted: it can break its own tunnel and nothing else.
 */
export class Tunnel {
  readonly #socket: Socket;
  readonly #proxy: EgressProxy;
  readonly #mux: Mux;
  readonly #closed = Promise.withResolvers<string>();
  #why = "the connection was closed";
  #heardMs = performance.now();
  #debtMs = 0;
  #paidMs = performance.now();

  /** Rejects with an Error when the executor can't be reached or refuses; throws `bad_request` for rules that can't be read. */
  static async open(options: TunnelOptions): Promise<Tunnel> {
    const { allow, trusted } = options.rules;
    const decided = (decision: EgressDecision): void => options.decided(decision);
    const proxy = new EgressProxy({
      allow: new AllowList(allow, options.nameable),
      decided,
      trusted: new Set(trusted),
    });
    const url = new URL(`/tunnel?for=${options.use}`, options.url);
    const { socket, rest } = await upgrade(url, options.token, UPGRADE_MS);
    return new Tunnel(socket, rest, proxy);
  }

  private constructor(socket: Socket, rest: Buffer, proxy: EgressProxy) {
    this.#socket = socket;
    this.#proxy = proxy;
    this.#mux = new Mux({
      send: (message) => this.#send(clientMessage(message)),
      accept: (stream) => {
        const isOwn = this.#mux.size <= OWN_STREAMS;
        if (allStreams >= (isOwn ? 2 * MAX_ALL_STREAMS : MAX_ALL_STREAMS)) return false;
        allStreams += 1;
        stream.once("close", () => (allStreams -= 1));
        this.#proxy.accept(stream);
        return true;
      },
    });
    const reader = new MessageReader({
      message: (message) => this.#owe(this.#mux.take(message) === FrameKind.OPEN ? OPEN_MS : FRAME_MS),
      ping: (payload) => {
        this.#owe(FRAME_MS);
        this.#send(clientPong(payload));
      },
      closing: () => this.#break("the executor ended it"),
      mustWait: () => this.#debtMs > CREDIT_MS || this.#socket.destroyed,
    });
    const take = (chunk: Buffer): void => {
      this.#heardMs = performance.now();
      try {
        reader.take(chunk);
        if (this.#debtMs > CREDIT_MS) void this.#pay().then(() => take(NOTHING));
      } catch (error) {
        this.#break(error instanceof Error ? error.message : String(error));
      }
    };
    const timer = setInterval(() => this.#ping(), PING_MS);
    socket.on("close", () => {
      clearInterval(timer);
      this.#mux.close();
      void this.#proxy.close();
      this.#closed.resolve(this.#why);
    });
    socket.on("data", take);
    if (rest.length > 0) take(rest);
    socket.resume();
  }

  /** Resolves, with the reason, when it carries nothing any more. */
  get closed(): Promise<string> {
    return this.#closed.promise;
  }

  /** Ends it and its connections. Idempotent. */
  close(): void {
    this.#break("it was closed here");
  }

  #break(why: string): void {
    if (this.#socket.destroyed) return;
    this.#why = why;
    this.#socket.destroy();
  }

  #send(bytes: Buffer): void {
    if (this.#socket.destroyed) return;
    this.#socket.write(bytes);
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) this.#break("the executor does not take what it is sent");
  }

  #ping(): void {
    if (performance.now() - this.#heardMs < SILENCE_MS) this.#send(clientPing());
    else this.#break("the executor is silent");
  }

  #owe(ms: number): void {
    const now = performance.now();
    this.#debtMs = Math.max(0, this.#debtMs - (now - this.#paidMs)) + ms;
    this.#paidMs = now;
  }

  /** Reads nothing more until the debt is paid; what was read already waits, too. */
  async #pay(): Promise<void> {
    this.#socket.pause();
    await delay(this.#debtMs - CREDIT_MS + PAYMENT_MS, undefined, { ref: false });
    this.#owe(0);
    this.#socket.resume();
  }
}
