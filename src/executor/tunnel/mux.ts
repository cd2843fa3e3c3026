import { encodeTunnelFrame, FrameKind, parseTunnelFrame, TunnelError, type TunnelFrame } from "./frames.ts";
import { TunnelStream } from "./stream.ts";

export type MuxOptions = {
  /** Sends one message to the peer. */
  send(message: Buffer): void;
  /** The peer opened a stream; absent: it may not. False: it is refused. */
  accept?(stream: TunnelStream): boolean;
};

/** Streams of one tunnel at the same time. */
export const MAX_STREAMS = 64;
const LAST_NUMBER = 0xffff_ffff;

/** The streams of one tunnel, at either end of it. The peer is not trusted: `take` throws TunnelError at the first wrong frame. */
export class Mux {
  readonly #o: MuxOptions;
  readonly #streams = new Map<number, TunnelStream>();
  #lastNumber = 0;
  #isClosed = false;

  constructor(options: MuxOptions) {
    this.#o = options;
  }

  get size(): number {
    return this.#streams.size;
  }

  /** A new stream to the peer; null when there can be no more. */
  open(): TunnelStream | null {
    if (this.#isClosed || this.#streams.size >= MAX_STREAMS || this.#lastNumber === LAST_NUMBER) return null;
    this.#lastNumber += 1;
    this.#o.send(encodeTunnelFrame(FrameKind.OPEN, this.#lastNumber));
    return this.#add(this.#lastNumber);
  }

  /** Takes a message of the peer. */
  take(message: Buffer): TunnelFrame["kind"] {
    const frame = parseTunnelFrame(message);
    if (frame.kind === FrameKind.OPEN) this.#opened(frame.stream);
    else if (frame.stream > this.#lastNumber) throw new TunnelError("a frame of a stream that was never opened");
    // The peer may not know yet that a stream is over here.
    else this.#streamTakes(this.#streams.get(frame.stream), frame);
    return frame.kind;
  }

  /** Ends every stream. Idempotent. */
  close(): void {
    this.#isClosed = true;
    for (const stream of this.#streams.values()) stream.takeReset();
  }

  #opened(number: number): void {
    if (this.#o.accept === undefined || number <= this.#lastNumber)
      throw new TunnelError("a stream can't be opened so");
    this.#lastNumber = number;
    if (this.#streams.size < MAX_STREAMS && this.#o.accept(this.#add(number))) return;
    const stream = this.#streams.get(number);
    if (stream === undefined) this.#o.send(encodeTunnelFrame(FrameKind.RESET, number));
    else stream.destroy();
  }

  #streamTakes(stream: TunnelStream | undefined, { kind, payload }: TunnelFrame): void {
    switch (kind) {
      case FrameKind.DATA:
        return stream?.takeData(Buffer.from(payload));
      case FrameKind.END:
        return stream?.takeEnd();
      case FrameKind.RESET:
        return stream?.takeReset();
      case FrameKind.WINDOW:
        return stream?.takeWindow(payload.readUInt32BE());
      case FrameKind.OPEN:
    }
  }

  #add(number: number): TunnelStream {
    const stream = new TunnelStream(number, {
      send: (frame) => this.#isClosed || this.#o.send(frame),
      forget: () => this.#streams.delete(number),
    });
    // Its end is told by "close" too, and an error without a listener would be nobody's.
    stream.on("error", () => {});
    this.#streams.set(number, stream);
    return stream;
  }
}
