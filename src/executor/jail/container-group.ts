import { readFileSync } from "node:fs";
import { join } from "node:path";

/** The control group of this container as it sees it itself: read-only, with everything that runs in it. */
export class ContainerGroup {
  readonly #root: string;
  readonly #isV2: boolean;
  /** Bytes; Infinity when there is no limit, or none that can be told. */
  readonly memoryLimit: number;
  /** Whether running out of memory ends the whole container, and not one process of it. */
  readonly endsAsAWhole: boolean;

  constructor(root = "/sys/fs/cgroup") {
    this.#root = root;
    this.#isV2 = this.#contents("cgroup.controllers") !== "";
    this.memoryLimit = this.#isV2
      ? this.#count("memory.max", /^(\d+)$/m, Number.POSITIVE_INFINITY)
      : Number.POSITIVE_INFINITY;
    this.endsAsAWhole = this.#contents("memory.oom.group").trim() === "1";
  }

  /** Processes that the kernel killed for memory so far. */
  memoryKills(): number {
    return this.#count(this.#isV2 ? "memory.events" : "memory/memory.oom_control", /^oom_kill (\d+)$/m);
  }

  /** Forks that were refused for the limit so far. */
  processRefusals(): number {
    return this.#count(this.#isV2 ? "pids.events" : "pids/pids.events", /^max (\d+)$/m);
  }

  /** Bytes in use that the kernel can't take back, roughly; version 2 only. Cheap while little is used. */
  heldMemory(): number {
    const current = this.#count("memory.current", /^(\d+)$/m);
    if (current < this.memoryLimit / 2) return current;
    const stat = this.#contents("memory.stat");
    const kinds = ["anon", "shmem", "kernel"].map((kind) => new RegExp(`^${kind} (\\d+)$`, "m").exec(stat)?.[1]);
    return kinds.reduce((sum, bytes) => sum + Number(bytes ?? 0), 0);
  }

  #count(file: string, pattern: RegExp, fallback = 0): number {
    return Number(pattern.exec(this.#contents(file))?.[1] ?? fallback);
  }

  #contents(file: string): string {
    try {
      return readFileSync(join(this.#root, file), "utf8");
    } catch {
      return "";
    }
  }
}
