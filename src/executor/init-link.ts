import type { Log } from "../log.ts";
import { encodeFrame, FrameDecoder, FrameType, type Frame } from "./init/frames.ts";
import type { JailedInit } from "./jail/jail.ts";

export type LinkEvents = {
  /** A frame other than READY. Its payload is valid during the call only. */
  frame(frame: Frame): void;
  /** Init has ended, and every process of its sandbox; all of its frames were given. */
  gone(): void;
};

/** How long a new sandbox may take until init answers. */
const READY_MS = 10_000;
/** How often a silent init is asked whether it is there, and how often in vain before it is given up. */
const PING_MS = 5000;
const MAX_UNANSWERED = 3;

/** The connection to the init of one sandbox: frames both ways. */
export class InitLink {
  readonly #jailed: JailedInit;
  readonly #events: LinkEvents;
  readonly #log: Log;
  readonly #ready = Promise.withResolvers<void>();
  readonly #gone = Promise.withResolvers<void>();
  #watch: NodeJS.Timeout | null = null;
  #unanswered = 0;
  #open = true;

  constructor(jailed: JailedInit, events: LinkEvents, log: Log) {
    this.#jailed = jailed;
    this.#events = events;
    this.#log = log;
    // It may fail before anybody asks for it.
    this.#ready.promise.catch(() => {});
    void this.#readFrames();
    void this.#readLog();
  }

  /** Resolves when init is there; throws when it ended or did not answer in time. */
  async ready(): Promise<void> {
    const timer = setTimeout(() => {
      this.#ready.reject(new Error("init did not answer in time"));
    }, READY_MS);
    try {
      await this.#ready.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Resolves when init has ended. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  /** Sends frames, in this order. Nothing happens once init is gone. */
  send(...frames: Uint8Array[]): void {
    if (!this.#open) return;
    try {
      for (const frame of frames) this.#sent(this.#jailed.stdin.write(frame));
      this.#sent(this.#jailed.stdin.flush());
    } catch (error) {
      this.#log.warn("init.write_failed", { error });
    }
  }

  /** What is still to be written fails when init ends before it has read it; its end is told by its stdout. */
  #sent(written: number | Promise<number>): void {
    if (typeof written === "number") return;
    written.catch((error: unknown) => this.#log.debug("init.write_failed", { error }));
  }

  /** Asks a silent init now and then whether it is there, until `unwatch`; calls `dead` when it is not. */
  watch(dead: () => void): void {
    this.#unanswered = 0;
    this.#watch ??= setInterval(() => {
      if (this.#unanswered++ >= MAX_UNANSWERED) dead();
      else this.send(encodeFrame(FrameType.PING, 0));
    }, PING_MS);
  }

  unwatch(): void {
    if (this.#watch !== null) clearInterval(this.#watch);
    this.#watch = null;
  }

  async #readFrames(): Promise<void> {
    const decoder = new FrameDecoder();
    try {
      for await (const chunk of this.#jailed.stdout) {
        this.#unanswered = 0;
        for (const frame of decoder.push(chunk)) this.#take(frame);
      }
    } catch (error) {
      this.#log.error("init.read_failed", { error });
      this.#jailed.kill();
    }
    const code = await this.#jailed.exited;
    this.#open = false;
    this.unwatch();
    this.#ready.reject(new Error(`init ended with ${code}`));
    this.#events.gone();
    this.#gone.resolve();
  }

  #take(frame: Frame): void {
    if (frame.type === FrameType.READY) this.#ready.resolve();
    else this.#events.frame(frame);
  }

  /** What init and its launcher say on stderr, in bounded lines. */
  async #readLog(): Promise<void> {
    const decoder = new TextDecoder();
    try {
      for await (const chunk of this.#jailed.stderr)
        for (const line of decoder.decode(chunk, { stream: true }).split("\n"))
          if (line !== "") this.#log.warn("init.stderr", { line: line.slice(0, 500) });
    } catch (error) {
      this.#log.debug("init.stderr_failed", { error });
    }
  }
}
