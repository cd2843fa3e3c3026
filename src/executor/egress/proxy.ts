import { connect, createServer, isIP, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { EgressDecision } from "../protocol.ts";
import type { AllowList } from "./allow-list.ts";
import { addressesOf } from "./resolve.ts";
import { formatHost, type Target } from "./host.ts";
import { parseRequestHead, type BadRequest, type RequestHead } from "./request-head.ts";

export type EgressProxyOptions = {
  allow: AllowList;
  /** Called for every decision. */
  decided(decision: EgressDecision): void;
  /** Names that are dialled whatever address they lead to. */
  trusted?: ReadonlySet<string>;
  /** All addresses of a name, as hosts file and name servers of the system say; for tests, another's. */
  resolve?: (name: string) => Promise<string[]>;
};

/** What a program's connection comes as: a socket, or a stream of a tunnel. */
export type ProxyClient = Duplex & { setTimeout(ms: number, callback?: () => void): unknown; destroySoon(): void };

const MAX_HEAD_BYTES = 16 * 1024;
const MAX_CONNECTIONS = 128;
const MAX_LOOKUPS = 64;
const HEAD_TIMEOUT_MS = 10_000;
const DIAL_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 300_000;

/**
 * The only way out of one sandbox: an HTTP proxy (CONNECT, and absolute-form requests, one a connection), on a unix socket
 * or for connections that are handed to it.
 * A name is parsed once, resolved once, and the very address that was checked is dialled.
 */
export class EgressProxy {
  readonly #options: EgressProxyOptions;
  readonly #sockets = new Set<ProxyClient>();
  #server: Server | null = null;
  /** Also those of programs that have gone. */
  #lookups = 0;

  constructor(options: EgressProxyOptions) {
    this.#options = options;
  }

  /** Serves connections to a unix socket. Throws what the bind threw. */
  async listen(path: string): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (client) => this.accept(client));
    server.maxConnections = MAX_CONNECTIONS;
    const ready = Promise.withResolvers<void>();
    server.once("error", ready.reject);
    server.listen(path, ready.resolve);
    await ready.promise;
    this.#server = server;
  }

  /** Ends every connection, and the listener where there is one. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server === null) return;
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => closed.resolve());
    await closed.promise;
  }

  #track(socket: ProxyClient, timeoutMs: number): void {
    this.#sockets.add(socket);
    socket.setTimeout(timeoutMs, () => socket.destroy());
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#sockets.delete(socket));
  }

  /** Serves one connection. */
  accept(client: ProxyClient): void {
    this.#track(client, HEAD_TIMEOUT_MS);
    let received = Buffer.alloc(0);
    const take = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      const end = received.indexOf("\r\n\r\n");
      if (end < 0 && received.length <= MAX_HEAD_BYTES) return;
      client.off("data", take);
      client.pause();
      if (end < 0 || end > MAX_HEAD_BYTES) return refuse(client, 431, "the request head is too large");
      const head = parseRequestHead(received.toString("latin1", 0, end));
      const rest = received.subarray(end + 4);
      this.#serve(client, head, rest).catch(() => client.destroy());
    };
    client.on("data", take);
  }

  async #serve(client: ProxyClient, head: RequestHead | BadRequest, rest: Buffer): Promise<void> {
    if (head.kind === "bad") {
      this.#decide("?", null, null, head.message);
      return refuse(client, head.status, head.message);
    }
    const method = head.kind === "connect" ? "CONNECT" : (head.head.split(" ", 1)[0] ?? "?");
    const address = await this.#permittedAddress(method, head.target);
    if (address === null) return refuse(client, 403, "the session's network rules do not allow this");
    let origin: Socket;
    try {
      origin = await dial(address, head.target.port, client);
    } catch {
      return refuse(client, 502, "the address does not answer");
    }
    this.#track(origin, IDLE_TIMEOUT_MS);
    client.setTimeout(IDLE_TIMEOUT_MS);
    client.on("close", () => origin.destroy());
    if (client.destroyed) return void origin.destroy();
    origin.on("close", () => client.destroySoon());
    if (head.kind === "connect") {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      origin.write(rest);
      client.pipe(origin);
    } else {
      origin.write(head.head);
      forwardBody(client, origin, rest, head.bodyBytes);
    }
    origin.pipe(client);
    client.resume();
  }

  async #permittedAddress(method: string, target: Target): Promise<string | null> {
    const { allow, resolve = addressesOf, trusted } = this.#options;
    if (!allow.permitsTarget(target)) {
      const reason = allow.bars(target) ? "the address is private or special" : "not in the allow list";
      return this.#decide(method, target, null, reason);
    }
    if (target.host.kind === "ip") return this.#decide(method, target, target.host.address, "listed address");
    if (this.#lookups >= MAX_LOOKUPS) return this.#decide(method, target, null, "too many names are looked up already");
    this.#lookups += 1;
    const isTrusted = trusted?.has(target.host.name) === true;
    const addresses = await resolve(target.host.name)
      // A name that can't be looked up is told of below as one without an address.
      .catch(() => [])
      .finally(() => (this.#lookups -= 1));
    const permitted = addresses.find(
      (address) => isIP(address) !== 0 && (isTrusted || allow.permitsAddress(address, target.port, true)),
    );
    if (permitted !== undefined) return this.#decide(method, target, permitted, "listed name");
    const isNowhere = addresses.length === 0;
    const refusal = isNowhere ? "the name has no address" : "the name leads to a private or special address";
    return this.#decide(method, target, null, refusal);
  }

  /** Tells of a decision, and returns the address that may be dialled; null: none. */
  #decide(method: string, target: Target | null, address: string | null, reason: string): string | null {
    this.#options.decided({
      at: new Date().toISOString(),
      method,
      host: target === null ? "" : formatHost(target.host),
      port: target?.port ?? 0,
      address,
      allowed: address !== null,
      reason,
    });
    return address;
  }
}

/** Sends exactly the announced body on; whatever a client adds after it never reaches the origin. */
function forwardBody(client: ProxyClient, origin: Socket, first: Buffer, bodyBytes: number): void {
  let left = bodyBytes;
  const send = (chunk: Buffer): void => {
    const part = chunk.subarray(0, left);
    left -= part.length;
    if (part.length > 0 && !origin.write(part)) {
      client.pause();
      origin.once("drain", () => client.resume());
    }
  };
  send(first);
  client.on("data", send);
}

/** Rejects, and leaves nothing, when there is no connection in time or the program has gone meanwhile. */
async function dial(address: string, port: number, client: ProxyClient): Promise<Socket> {
  if (client.destroyed) throw new Error("the program has gone");
  const dialled = Promise.withResolvers<Socket>();
  const socket = connect({ host: address, port, allowHalfOpen: true });
  const timer = setTimeout(() => socket.destroy(new Error("timed out")), DIAL_TIMEOUT_MS);
  const leave = (): unknown => socket.destroy(new Error("the program has gone"));
  client.once("close", leave);
  socket.once("connect", () => dialled.resolve(socket));
  socket.once("error", dialled.reject);
  try {
    return await dialled.promise;
  } finally {
    clearTimeout(timer);
    client.off("close", leave);
  }
}

function refuse(client: ProxyClient, status: number, message: string): void {
  const body = `${message}\n`;
  client.end(
    `HTTP/1.1 ${status} Refused\r\ncontent-type: text/plain\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
