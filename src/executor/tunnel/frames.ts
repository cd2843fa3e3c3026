/**
 * What the two ends of a tunnel say to each other, one frame a message: a byte of type, four of the stream's number (big
 * endian), and the payload.
 *
 *     OPEN    executor → control plane   a program has connected to the proxy; numbers grow and are never used again
 *     DATA    both ways                  1 to MAX_DATA_BYTES bytes, within what WINDOW gave
 *     END     both ways                  no more data comes in this direction
 *     RESET   both ways                  the stream is over, in both directions
 *     WINDOW  both ways                  four bytes: so much more may be sent; each direction begins with WINDOW_BYTES
 */
export const FrameKind = { OPEN: 1, DATA: 2, END: 3, RESET: 4, WINDOW: 5 } as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

export type TunnelFrame = { kind: FrameKind; stream: number; payload: Buffer };

export const MAX_DATA_BYTES = 32 * 1024;
export const WINDOW_BYTES = 64 * 1024;
const HEAD_BYTES = 5;
export const MAX_FRAME_BYTES = HEAD_BYTES + MAX_DATA_BYTES;
/** What a DATA frame costs of the window at least, so that many small ones take no more memory than they are worth. */
const MIN_COST = 256;

/** The peer does not keep to the protocol: the tunnel ends. */
export class TunnelError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "TunnelError";
  }
}

const NOTHING = Buffer.alloc(0);

/** A frame of a stream. Nobody checks here that the payload is one of this kind. */
export function encodeTunnelFrame(kind: FrameKind, stream: number, payload: Uint8Array = NOTHING): Buffer {
  const frame = Buffer.allocUnsafe(HEAD_BYTES + payload.length);
  frame.writeUInt8(kind, 0);
  frame.writeUInt32BE(stream, 1);
  frame.set(payload, HEAD_BYTES);
  return frame;
}

/** A WINDOW: so many more bytes may be sent to whoever sends this. */
export function encodeWindow(stream: number, bytes: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(bytes);
  return encodeTunnelFrame(FrameKind.WINDOW, stream, payload);
}

/** Throws TunnelError for what is no frame. The payload is a view. */
export function parseTunnelFrame(message: Buffer): TunnelFrame {
  if (message.length < HEAD_BYTES || message.length > MAX_FRAME_BYTES) throw new TunnelError("a frame of a wrong size");
  const kind = message.readUInt8(0) as FrameKind;
  const payload = message.subarray(HEAD_BYTES);
  const isSized = kind === FrameKind.DATA ? payload.length > 0 : payload.length === (kind === FrameKind.WINDOW ? 4 : 0);
  if (kind < FrameKind.OPEN || kind > FrameKind.WINDOW || !isSized) throw new TunnelError("a malformed frame");
  return { kind, stream: message.readUInt32BE(1), payload };
}

/** What a DATA frame of so many bytes takes of the window. */
export function costOf(bytes: number): number {
  return Math.max(bytes, MIN_COST);
}
