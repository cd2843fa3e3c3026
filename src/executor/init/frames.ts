import type { ProcessExit } from "../execution.ts";

/**
 * The wire between an executor and init, both directions. A frame is a header of 12 bytes (u32 payload length, u8 type, u8
 * flags, u16 zero, u32 id of the process) and its payload; numbers are little endian.
 */
export const FrameType = {
  START: 0x01,
  STDIN: 0x02,
  JOB: 0x03,
  KILL: 0x05,
  ZYGOTE: 0x06,
  PING: 0x07,
  READY: 0x41,
  STARTED: 0x42,
  STDOUT: 0x43,
  STDERR: 0x44,
  RESULT: 0x45,
  EXIT: 0x46,
  START_FAILED: 0x47,
  KILLED: 0x48,
  PONG: 0x49,
  ZYGOTE_STATE: 0x4a,
  PROTOCOL_ERROR: 0x4c,
} as const;

/** Flag of STDIN and JOB: nothing follows, the pipe is closed after this chunk. */
export const LAST_CHUNK = 1;
/** Flags of a START. ZYGOTE: as a fork of the warm Python; its command is for when there is none. */
export const StartFlag = { ZYGOTE: 1 } as const;
/** Longest chunk of STDIN and JOB that init takes, in bytes. */
export const MAX_CHUNK = 1024 * 1024;

export type Frame = { type: number; flags: number; id: number; payload: Uint8Array };

export type StartSpec = {
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  cwd: string;
  flags?: number;
};

const HEADER_BYTES = 12;
/** Init reads output in pieces of at most 64 KiB; its other frames are shorter. */
const MAX_PAYLOAD = 64 * 1024;
const Tag = { ARGV: 1, ENV: 2, CWD: 3, FLAGS: 5 } as const;
const NOTHING = new Uint8Array();

/** What init sent is not a frame: the connection can't be read any further. */
export class FrameError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "FrameError";
  }
}

/** A frame to init; `id` is the process that it is about, 0 for none. */
export function encodeFrame(type: number, id: number, payload: Uint8Array = NOTHING, flags = 0): Uint8Array {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  frame.writeUInt32LE(payload.length, 0);
  frame[4] = type;
  frame[5] = flags;
  frame.writeUInt16LE(0, 6);
  frame.writeUInt32LE(id, 8);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

/** The payload of START and ZYGOTE: items of u8 tag, u32 length, bytes. Strings with NUL are refused. */
export function encodeStart(spec: StartSpec): Uint8Array {
  const parts: Uint8Array[] = [];
  const text = (tag: number, value: string): void => {
    if (value.includes("\0")) throw new FrameError("a NUL byte in an argument, a variable or a path");
    parts.push(item(tag, Buffer.from(value)));
  };
  for (const argument of spec.argv) text(Tag.ARGV, argument);
  for (const [name, value] of Object.entries(spec.env)) text(Tag.ENV, `${name}=${value}`);
  text(Tag.CWD, spec.cwd);
  const flags = Buffer.alloc(4);
  flags.writeUInt32LE(spec.flags ?? 0, 0);
  parts.push(item(Tag.FLAGS, flags));
  return Buffer.concat(parts);
}

function item(tag: number, bytes: Uint8Array): Uint8Array {
  const head = Buffer.allocUnsafe(5);
  head[0] = tag;
  head.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** Frames of STDIN or JOB that carry `bytes` in chunks, the last one marked so. */
export function encodeInput(type: number, id: number, bytes: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let at = 0; at === 0 || at < bytes.length; at += MAX_CHUNK) {
    const chunk = bytes.subarray(at, at + MAX_CHUNK);
    frames.push(encodeFrame(type, id, chunk, at + MAX_CHUNK >= bytes.length ? LAST_CHUNK : 0));
  }
  return frames;
}

/**
 * Cuts what init sends into frames, however the bytes arrive. It holds less than one frame and copies no payload but of a
 * frame that came in pieces.
 */
export class FrameDecoder {
  #rest: Buffer[] = [];
  #held = 0;
  #wanted = HEADER_BYTES;

  /** The frames that are whole now; a payload is valid until the next push. Throws FrameError. */
  push(chunk: Uint8Array): Frame[] {
    this.#rest.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    this.#held += chunk.length;
    const frames: Frame[] = [];
    if (this.#held < this.#wanted) return frames;
    const all = this.#rest.length === 1 ? (this.#rest[0] ?? Buffer.alloc(0)) : Buffer.concat(this.#rest);
    let at = 0;
    this.#wanted = HEADER_BYTES;
    while (all.length - at >= HEADER_BYTES) {
      const end = at + HEADER_BYTES + payloadLength(all, at);
      if (end > all.length) {
        this.#wanted = end - at;
        break;
      }
      frames.push({
        type: all[at + 4] ?? 0,
        flags: all[at + 5] ?? 0,
        id: all.readUInt32LE(at + 8),
        payload: all.subarray(at + HEADER_BYTES, end),
      });
      at = end;
    }
    this.#held = all.length - at;
    // A copy: whoever read the chunk may use its memory again.
    this.#rest = this.#held === 0 ? [] : [Buffer.from(all.subarray(at))];
    return frames;
  }
}

/** Of the frame whose header is at `at`. Throws FrameError when init would not write such a header. */
function payloadLength(bytes: Buffer, at: number): number {
  const length = bytes.readUInt32LE(at);
  const type = bytes[at + 4] ?? 0;
  if (length > MAX_PAYLOAD) throw new FrameError(`a frame of ${length} bytes`);
  if (type < FrameType.READY || type > FrameType.PROTOCOL_ERROR) throw new FrameError(`a frame of type ${type}`);
  if (bytes.readUInt16LE(at + 6) !== 0) throw new FrameError("a frame with a malformed header");
  return length;
}

/** The payload of EXIT. */
export function parseExit(payload: Uint8Array): ProcessExit {
  if (payload.length < 44) throw new FrameError("a short EXIT");
  const view = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  const number = (at: number): number => Number(view.readBigUInt64LE(at));
  return {
    waitStatus: view.readUInt32LE(0),
    userUs: number(4),
    systemUs: number(12),
    maxRssKb: number(20),
    blocksRead: number(28),
    blocksWritten: number(36),
  };
}

/** The payload of START_FAILED. */
export function parseStartFailed(payload: Uint8Array): { errno: number; message: string } {
  if (payload.length < 4) throw new FrameError("a short START_FAILED");
  const view = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  return { errno: view.readUInt32LE(0), message: view.toString("utf8", 4) };
}
