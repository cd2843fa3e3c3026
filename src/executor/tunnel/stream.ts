import { Duplex } from "node:stream";
import {
  costOf,
  encodeTunnelFrame,
  encodeWindow,
  FrameKind,
  MAX_DATA_BYTES,
  TunnelError,
  WINDOW_BYTES,
} from "./frames.ts";

/** What a stream needs of its tunnel. */
export type StreamHost = {
  send(frame: Buffer): void;
  /** The stream is over. */
  forget(stream: TunnelStream): void;
};

const BUFFERED_BYTES = 16 * 1024;
/** More is asked for once so much of the window was used. */
const ASKED_FOR_AT = WINDOW_BYTES / 4;

/**
 * One connection in a tunnel. What it holds is bounded by the window in each direction: the peer sends no more than was
 * asked for, and what is written here is taken as the peer asks for it.
 */
export class TunnelStream extends Duplex {
  readonly number: number;
  readonly #host: StreamHost;
  /** What the peer may still send, and what of it has come since the last WINDOW. */
  #receivable = WINDOW_BYTES;
  #received = 0;
  #sendable = WINDOW_BYTES;
  #unsent: { chunk: Buffer; done: (error?: Error) => void } | null = null;
  #hasEnded = { here: false, there: false };
  #isReset = false;
  #idle: NodeJS.Timeout | null = null;

  constructor(number: number, host: StreamHost) {
    super({ allowHalfOpen: true, highWaterMark: BUFFERED_BYTES, emitClose: true });
    this.number = number;
    this.#host = host;
  }

  /** Calls back when nothing has moved for `ms`, as a socket does. */
  setTimeout(ms: number, callback?: () => void): this {
    if (this.#idle !== null) clearTimeout(this.#idle);
    if (callback !== undefined) this.once("timeout", callback);
    this.#idle = ms === 0 ? null : setTimeout(() => this.emit("timeout"), ms);
    this.#idle?.unref();
    return this;
  }

  /** Ends once what was written has gone. */
  destroySoon(): void {
    if (this.writableFinished) this.destroy();
    else this.end(() => this.destroy());
  }

  /** Throws TunnelError when the peer sends more than it may. */
  takeData(payload: Buffer): void {
    const cost = costOf(payload.length);
    if (this.#hasEnded.there) throw new TunnelError("data after the end");
    if (cost > this.#receivable) throw new TunnelError("more data than was asked for");
    this.#receivable -= cost;
    this.#received += cost;
    this.#moved();
    this.push(payload);
  }

  takeEnd(): void {
    if (this.#hasEnded.there) throw new TunnelError("a second end");
    this.#hasEnded.there = true;
    this.push(null);
  }

  takeReset(): void {
    this.#isReset = true;
    this.destroy();
  }

  /** Throws TunnelError when the peer asks for more than a window at once. */
  takeWindow(bytes: number): void {
    this.#sendable += bytes;
    if (this.#sendable > WINDOW_BYTES) throw new TunnelError("a window that is too large");
    this.#moved();
    this.#flush();
  }

  override _read(): void {
    if (this.#received < ASKED_FOR_AT || this.#hasEnded.there) return;
    this.#host.send(encodeWindow(this.number, this.#received));
    this.#receivable += this.#received;
    this.#received = 0;
  }

  override _write(chunk: Buffer | string, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#unsent = { chunk: typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk, done };
    this.#flush();
  }

  override _final(done: () => void): void {
    this.#hasEnded.here = true;
    if (!this.#isReset) this.#host.send(encodeTunnelFrame(FrameKind.END, this.number));
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.#idle !== null) clearTimeout(this.#idle);
    const isOver = this.#isReset || (this.#hasEnded.here && this.#hasEnded.there);
    if (!isOver) this.#host.send(encodeTunnelFrame(FrameKind.RESET, this.number));
    this.#unsent = null;
    this.#host.forget(this);
    done(error);
  }

  /** Sends what of the unsent chunk the window lets through. */
  #flush(): void {
    while (this.#unsent !== null) {
      const { chunk, done } = this.#unsent;
      const part = chunk.subarray(0, Math.min(MAX_DATA_BYTES, this.#sendable));
      const cost = costOf(part.length);
      if (chunk.length > 0 && cost > this.#sendable) return;
      if (part.length > 0) {
        this.#sendable -= cost;
        this.#host.send(encodeTunnelFrame(FrameKind.DATA, this.number, part));
        this.#moved();
      }
      const rest = chunk.subarray(part.length);
      this.#unsent = rest.length === 0 ? null : { chunk: rest, done };
      if (rest.length === 0) done();
    }
  }

  #moved(): void {
    if (this.#idle !== null) this.#idle.refresh();
  }
}
