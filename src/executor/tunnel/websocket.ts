import { createHash, randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { MAX_FRAME_BYTES, TunnelError } from "./frames.ts";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const MAX_HEAD_BYTES = 8 * 1024;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
const MAX_CONTROL_BYTES = 125;

/** A socket whose peer has agreed to speak WebSocket (RFC 6455), and what it has said after that. */
export type Upgraded = { socket: Socket; rest: Buffer };

/**
 * Asks for a WebSocket at an address. The runtime's own client would take messages of any size and can't be told to wait,
 * which an untrusted peer could use. Rejects with an Error that names the answer's status, when there was one.
 */
export function upgrade(url: URL, token: string, timeoutMs: number): Promise<Upgraded> {
  const upgraded = Promise.withResolvers<Upgraded>();
  const key = randomBytes(16).toString("base64");
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const socket = connect({ host, port: Number(url.port || 80), noDelay: true });
  const timer = setTimeout(() => socket.destroy(new Error("no answer in time")), timeoutMs);
  socket.once("connect", () => socket.write(requestHead(url, token, key)));
  socket.on("error", upgraded.reject);
  socket.once("close", () => upgraded.reject(new Error("closed before the answer")));
  let received = Buffer.alloc(0);
  const take = (chunk: Buffer): void => {
    received = Buffer.concat([received, chunk]);
    const end = received.indexOf("\r\n\r\n");
    if (end < 0 && received.length <= MAX_HEAD_BYTES) return;
    socket.off("data", take);
    const refusal = end < 0 ? "its answer is too long" : refusalIn(received.toString("latin1", 0, end), key);
    if (refusal !== null) return void socket.destroy(new Error(refusal));
    socket.pause();
    upgraded.resolve({ socket, rest: received.subarray(end + 4) });
  };
  socket.on("data", take);
  return upgraded.promise.finally(() => clearTimeout(timer));
}

function requestHead(url: URL, token: string, key: string): string {
  const fields = [
    `GET ${url.pathname}${url.search} HTTP/1.1`,
    `Host: ${url.host}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    `Sec-WebSocket-Key: ${key}`,
    `Authorization: Bearer ${token}`,
  ];
  return `${fields.join("\r\n")}\r\n\r\n`;
}

/** Null when the answer agrees. */
function refusalIn(head: string, key: string): string | null {
  const accept = createHash("sha1").update(`${key}${GUID}`).digest("base64");
  const status = /^HTTP\/1\.1 (\d{3})/.exec(head)?.[1] ?? "nothing readable";
  if (status !== "101") return `it answered ${status}`;
  const found = /^sec-websocket-accept:\s*(\S+)\s*$/im.exec(head)?.[1];
  return found === accept ? null : "it agreed to something else";
}

export type MessageEvents = {
  message(payload: Buffer): void;
  /** The peer wants to know whether this end lives. */
  ping(payload: Buffer): void;
  /** The peer says that it ends. */
  closing(): void;
  /** Whether the next one is to wait until `take` is called again. */
  mustWait(): boolean;
};

/** Reads the frames of a WebSocket's server: unfragmented binary messages of at most MAX_FRAME_BYTES, and control frames. */
export class MessageReader {
  readonly #events: MessageEvents;
  #held: Buffer = Buffer.alloc(0);

  constructor(events: MessageEvents) {
    this.#events = events;
  }

  /** Takes what came, perhaps nothing. Throws TunnelError for what may not come. */
  take(chunk: Buffer): void {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    for (let head = frameHead(this.#held); head !== null; head = frameHead(this.#held)) {
      if (this.#events.mustWait()) return;
      const end = head.start + head.length;
      if (this.#held.length < end) return;
      const payload = this.#held.subarray(head.start, end);
      this.#held = this.#held.subarray(end);
      if (head.opcode === BINARY) this.#events.message(payload);
      else if (head.opcode === PING) this.#events.ping(payload);
      else if (head.opcode === CLOSE) this.#events.closing();
    }
  }
}

/** Null when it is not whole yet. */
function frameHead(bytes: Buffer): { opcode: number; start: number; length: number } | null {
  if (bytes.length < 2) return null;
  const [first = 0, second = 0] = bytes;
  const opcode = first & 0x0f;
  if ((first & 0xf0) !== 0x80 || ![BINARY, CLOSE, PING, PONG].includes(opcode))
    throw new TunnelError("a WebSocket frame of a kind that is not used");
  if ((second & 0x80) !== 0 || second === 127) throw new TunnelError("a masked or oversized WebSocket frame");
  if (second < 126) return { opcode, start: 2, length: second };
  if (bytes.length < 4) return null;
  const length = bytes.readUInt16BE(2);
  if (length > MAX_FRAME_BYTES || opcode !== BINARY) throw new TunnelError("an oversized WebSocket frame");
  return { opcode, start: 4, length };
}

/** A frame of a WebSocket's client. The mask is for proxies between, of which there are none: all zero leaves bytes as they are. */
function clientFrame(opcode: number, payload: Buffer): Buffer {
  const isShort = payload.length <= MAX_CONTROL_BYTES;
  const head = Buffer.alloc(isShort ? 6 : 8);
  head.writeUInt8(0x80 | opcode, 0);
  head.writeUInt8(0x80 | (isShort ? payload.length : 126), 1);
  if (!isShort) head.writeUInt16BE(payload.length, 2);
  return Buffer.concat([head, payload]);
}

export const clientMessage = (payload: Buffer): Buffer => clientFrame(BINARY, payload);
export const clientPong = (payload: Buffer): Buffer => clientFrame(PONG, payload);
export const clientPing = (): Buffer => clientFrame(PING, Buffer.alloc(0));
