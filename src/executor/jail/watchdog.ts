import type { SandboxLimits } from "../protocol.ts";
import type { DiskMeter } from "./disk-meter.ts";
import type { SandboxLimit } from "./jail.ts";
import { treeUsage } from "./process-tree.ts";
import type { Usage } from "./usage.ts";

export type WatchdogOptions = {
  disk: DiskMeter;
  limits: SandboxLimits;
  /** A number that changes whenever anything has run in the sandbox. */
  activity(): number;
  /** Root of the sandbox's processes when no control group counts them and their memory; else null. */
  countedFrom: number | null;
  /** Ends executions for it; false when there is none. */
  passed(limit: SandboxLimit): boolean;
  /** A look failed, by a fault of this program. */
  failed(error: unknown): void;
  /** A limit is passed again and again although executions were ended: the sandbox itself must end. */
  overrun(limit: SandboxLimit): void;
};

const DISK_MS = 200;
/** Memory grows faster than files do. */
const COUNTING_MS = 50;
const IDLE_MS = 1000;
/** For so long may a limit be passed, look after look, before the sandbox is ended; memory never twice over. */
const IN_VAIN_MS = 1500;
const MAX_EMPTIED = 3;
const MAX_CHANCES = 5;

/** Holds the limits that the kernel does not hold here: the workspace's size, and without control groups memory and processes. */
export class Watchdog {
  readonly #o: WatchdogOptions;
  readonly #activeMs: number;
  #timer: NodeJS.Timeout | null = null;
  #dueMs = 0;
  #diskDueMs = 0;
  #isLooking = false;
  #isStopped = false;
  #lastActivity = -1;
  /** The activity before the last scan of the disk: what came after it was not seen. */
  #scannedActivity = -1;
  #lastUsage: Usage = { bytes: 0, files: 0 };
  /** How often the limit seemed passed while the workspace was being emptied, since there last was room. */
  #emptied = 0;
  /** The last look found the disk limit passed. */
  #isDiskPassed = false;
  /** When each limit was first found passed, for those that every look since has found passed. */
  readonly #passedSinceMs = new Map<SandboxLimit, number>();
  /** How often in a row ending executions of late was another chance. */
  #chances = 0;

  constructor(options: WatchdogOptions) {
    this.#o = options;
    this.#activeMs = options.countedFrom === null ? DISK_MS : COUNTING_MS;
    this.#schedule(this.#activeMs);
  }

  stop(): void {
    this.#isStopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  /** The sandbox was given something to do: it is looked at soon. */
  wake(): void {
    if (!this.#isLooking && this.#dueMs > performance.now() + this.#activeMs) this.#schedule(this.#activeMs);
  }

  #schedule(ms: number): void {
    if (this.#isStopped) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#dueMs = performance.now() + ms;
    this.#timer = setTimeout(() => void this.#look(), ms);
    this.#timer.unref();
  }

  /** After a look that failed there is another one: nothing else holds these limits. */
  async #look(): Promise<void> {
    let pauseMs = this.#activeMs;
    this.#isLooking = true;
    try {
      pauseMs = await this.#lookOnce();
    } catch (error) {
      this.#o.failed(error);
    }
    this.#isLooking = false;
    this.#schedule(pauseMs);
  }

  /** Returns the milliseconds until the next look. */
  async #lookOnce(): Promise<number> {
    const activity = this.#o.activity();
    const isActive = activity !== this.#lastActivity;
    this.#lastActivity = activity;
    if (isActive && this.#o.countedFrom !== null) this.#lookAtProcesses(this.#o.countedFrom);
    if (activity !== this.#scannedActivity && performance.now() >= this.#diskDueMs && this.#o.disk.couldBeOver()) {
      this.#scannedActivity = activity;
      const passed = await this.#diskPassed();
      if (passed !== "settling") this.#note(["disk"], passed);
    }
    if (isActive) return this.#activeMs;
    if (activity === this.#scannedActivity) return IDLE_MS;
    return Math.min(IDLE_MS, Math.max(this.#activeMs, this.#diskDueMs - performance.now()));
  }

  #note(looked: SandboxLimit[], passed: SandboxLimit | null, isFar = false): void {
    for (const limit of looked) if (limit !== passed) this.#passedSinceMs.delete(limit);
    if (passed === null) this.#chances = 0;
    if (passed === null || this.#isStopped) return;
    const sinceMs = this.#passedSinceMs.get(passed) ?? performance.now();
    this.#passedSinceMs.set(passed, sinceMs);
    const isLong = performance.now() - sinceMs > IN_VAIN_MS;
    if (isFar || (isLong && this.#chances === MAX_CHANCES)) return this.#o.overrun(passed);
    const hasEnded = this.#o.passed(passed);
    if (!isLong) return;
    // Where looks are far apart, this may be another program than the one that was ended for the same before.
    if (!hasEnded) return this.#o.overrun(passed);
    this.#chances++;
    this.#passedSinceMs.set(passed, performance.now());
  }

  /** Passed means: above the limit and still growing, so that a full workspace can be looked at and emptied. */
  async #diskPassed(): Promise<SandboxLimit | "settling" | null> {
    const { disk } = this.#o;
    const used = await disk.look().catch(() => this.#lastUsage);
    this.#diskDueMs = performance.now() + Math.max(DISK_MS, disk.pauseMs) - this.#activeMs / 2;
    const before = this.#lastUsage;
    this.#lastUsage = used;
    // What was written until the executions were ended is seen only now, and is not the fault of what runs by now.
    const wasPassed = this.#isDiskPassed;
    if (!disk.isOver(used)) this.#emptied = 0;
    const grew = used.bytes > before.bytes || used.files > before.files;
    this.#isDiskPassed = !wasPassed && grew && disk.isOver(used) && !(await this.#isBeingEmptied(used));
    if (wasPassed) return "settling";
    return this.#isDiskPassed ? "disk" : null;
  }

  /** Looks again: what shrinks was filled earlier, by who may have ended. A few times alone, or it would be a way around. */
  async #isBeingEmptied(used: Usage): Promise<boolean> {
    if (this.#emptied === MAX_EMPTIED) return false;
    const { bytes, files } = await this.#o.disk.look().catch(() => used);
    this.#lastUsage = { bytes, files };
    const shrinks = bytes <= used.bytes && files <= used.files && (bytes < used.bytes || files < used.files);
    this.#emptied = shrinks ? this.#emptied + 1 : 0;
    return shrinks;
  }

  #lookAtProcesses(root: number): void {
    const { memoryBytes, maxProcesses } = this.#o.limits;
    const used = treeUsage(root, memoryBytes);
    const passed = used.memoryBytes > memoryBytes ? "memory" : used.tasks > maxProcesses ? "processes" : null;
    this.#note(["memory", "processes"], passed, used.memoryBytes > memoryBytes * 2);
  }
}
