import type { ContainerGroup } from "./container-group.ts";

export type MemoryGuardOptions = {
  group: ContainerGroup;
  /** A number that changes whenever anything has run. */
  activity(): number;
  /** Memory is nearly used up. May come again. */
  passed(): void;
};

/** What programs can fill until the next look, at several gigabytes a second. */
const MARGIN_BYTES = 40 * 1024 ** 2;
const LOOK_MS = 10;
/** Without activity between two of these, looking stops until the next wake-up. */
const IDLE_MS = 1000;

/**
 * Where the kernel ends a whole container that runs out of memory, and the executor with it: says so a moment before, for
 * as long as something runs.
 */
export class MemoryGuard {
  readonly #o: MemoryGuardOptions;
  #timer: NodeJS.Timeout | null = null;
  #idleCheckMs = 0;
  #lastActivity = -1;

  constructor(options: MemoryGuardOptions) {
    this.#o = options;
  }

  /** Something is about to run. */
  wake(): void {
    if (this.#timer !== null || !this.#o.group.endsAsAWhole) return;
    this.#idleCheckMs = performance.now() + IDLE_MS;
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #look(): void {
    const { group } = this.#o;
    if (group.heldMemory() > group.memoryLimit - MARGIN_BYTES) this.#o.passed();
    if (performance.now() < this.#idleCheckMs) return;
    this.#idleCheckMs = performance.now() + IDLE_MS;
    const activity = this.#o.activity();
    if (activity === this.#lastActivity) this.stop();
    this.#lastActivity = activity;
  }
}
