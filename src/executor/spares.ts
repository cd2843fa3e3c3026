import type { InitLink } from "./init-link.ts";
import { spareCommand, type SandboxPaths } from "./languages/launch.ts";
import type { SandboxSpec } from "./protocol.ts";
import { spareFrame } from "./start-frames.ts";

/** A started JavaScript interpreter that waits for its one job. */
export type Spare = { process: number; isSpawned: boolean };

/** A sandbox smaller than this keeps no spare: the memory is the session's. */
const MIN_MEMORY_BYTES = 192 * 1024 * 1024;
/** Spares that may end unused, one after the other, before no more are made. */
const MAX_FAILURES = 3;
/** How long a job has the processors to itself before the next spare is started beside it. */
const REFILL_MS = 2;

/** Keeps one spare interpreter ready, once there is a use for it. */
export class Spares {
  readonly #link: InitLink;
  readonly #paths: SandboxPaths;
  readonly #nextProcess: () => number;
  readonly #isAffordable: boolean;
  #spare: Spare | null = null;
  #failures = 0;

  constructor(spec: SandboxSpec, paths: SandboxPaths, link: InitLink, nextProcess: () => number) {
    this.#link = link;
    this.#paths = paths;
    this.#nextProcess = nextProcess;
    this.#isAffordable = spec.limits.memoryBytes >= MIN_MEMORY_BYTES;
  }

  /** Starts a spare unless there is one. */
  fill(): void {
    if (this.#spare !== null || !this.#isAffordable || this.#failures >= MAX_FAILURES) return;
    this.#spare = { process: this.#nextProcess(), isSpawned: false };
    this.#link.send(spareFrame(this.#spare.process, spareCommand(this.#paths)));
  }

  /** The spare, which is the caller's from now on; null when there is none. Another one is started soon. */
  take(): Spare | null {
    const spare = this.#spare;
    this.#spare = null;
    if (spare !== null) this.#failures = 0;
    setTimeout(() => this.fill(), REFILL_MS);
    return spare;
  }

  spawned(process: number): void {
    if (this.#spare?.process === process) this.#spare.isSpawned = true;
  }

  /** A process that is no execution's has ended or never started. */
  gone(process: number): void {
    if (this.#spare?.process !== process) return;
    this.#spare = null;
    this.#failures += 1;
    this.fill();
  }
}
