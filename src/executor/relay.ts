import { relayCommand } from "./egress/egress.ts";
import type { InitLink } from "./init-link.ts";
import { FrameType, type Frame } from "./init/frames.ts";
import { inputFrames, startFrame } from "./start-frames.ts";

/** How long the relay may take until it listens. */
const READY_MS = 10_000;
/** The sandbox's own code can end the relay: pause before it is started again. */
const RESTART_MS = 100;

/** The process inside a sandbox that carries connections to the sandbox's proxy. Started again whenever it ends. */
export class Relay {
  readonly #link: InitLink;
  readonly #runtime: string;
  readonly #nextProcess: () => number;
  readonly #ready = Promise.withResolvers<void>();
  #process = 0;

  constructor(link: InitLink, runtime: string, nextProcess: () => number) {
    this.#link = link;
    this.#runtime = runtime;
    this.#nextProcess = nextProcess;
  }

  /** Resolves when it listens; throws when that does not come. */
  async start(): Promise<void> {
    this.#spawn();
    const timer = setTimeout(() => this.#ready.reject(new Error("the relay does not listen")), READY_MS);
    try {
      await Promise.race([this.#ready.promise, this.#link.gone]);
    } finally {
      clearTimeout(timer);
    }
  }

  #spawn(): void {
    this.#process = this.#nextProcess();
    const plan = { mode: "exec" as const, argv: relayCommand(this.#runtime), env: {}, cwd: "/", job: null };
    this.#link.send(startFrame(this.#process, plan), ...inputFrames(this.#process, null, ""));
  }

  /** Whether the frame is about the relay, and so was taken. */
  take(frame: Frame): boolean {
    if (frame.id !== this.#process) return false;
    if (frame.type === FrameType.STDOUT) this.#ready.resolve();
    if (frame.type === FrameType.EXIT || frame.type === FrameType.START_FAILED)
      setTimeout(() => this.#spawn(), RESTART_MS);
    return true;
  }
}
