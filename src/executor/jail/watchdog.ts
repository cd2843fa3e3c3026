import { readdirSync, readFileSync } from "node:fs";
import type { SandboxLimits } from "../protocol.ts";
import type { SandboxLimit } from "./jail.ts";
import { measureUsage, type Usage } from "./usage.ts";

export type WatchdogOptions = {
  workspaceDir: string;
  limits: SandboxLimits;
  /** A number that changes whenever anything has run in the sandbox; null: not known, so look every time. */
  activity: (() => number) | null;
  /** Root of the sandbox's processes when no control group counts them and their memory; else null. */
  countedFrom: number | null;
  passed(limit: SandboxLimit): void;
  /** A limit is passed again and again although executions were ended: the sandbox itself must end. */
  overrun(limit: SandboxLimit): void;
};

const ACTIVE_MS = 200;
const IDLE_MS = 1000;
/** A scan may take one twentieth of the time. */
const DUTY = 20;
const MOST_IN_VAIN = 3;
/** Space that a file is expected to take at least: bounds the number of files by the disk limit. */
const BYTES_A_FILE = 8192;
const MIN_FILES = 10_000;

/** Most files that a workspace of this size may have. */
export function maxFiles(diskBytes: number): number {
  return Math.max(MIN_FILES, Math.floor(diskBytes / BYTES_A_FILE));
}

/** Looks after the limits that the kernel does not hold here: the workspace's size, and without control groups memory and processes. */
export class Watchdog {
  readonly #o: WatchdogOptions;
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;
  #lastActivity = -1;
  #lastUsage: Usage = { bytes: 0, files: 0 };
  #inVain = 0;

  constructor(options: WatchdogOptions) {
    this.#o = options;
    this.#schedule(ACTIVE_MS);
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #schedule(ms: number): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => void this.#look(), ms);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const activity = this.#o.activity?.() ?? null;
    if (activity !== null && activity === this.#lastActivity) return this.#schedule(IDLE_MS);
    this.#lastActivity = activity ?? -1;
    const started = performance.now();
    const limit = (await this.#diskPassed()) ?? this.#processesPassed();
    if (this.#stopped) return;
    if (limit === null) this.#inVain = 0;
    else if (++this.#inVain > MOST_IN_VAIN) this.#o.overrun(limit);
    else this.#o.passed(limit);
    this.#schedule(Math.max(ACTIVE_MS, (performance.now() - started) * DUTY));
  }

  /** Passed means: above the limit and still growing, so that a full workspace can be looked at and emptied. */
  async #diskPassed(): Promise<SandboxLimit | null> {
    const { diskBytes } = this.#o.limits;
    const most = { bytes: diskBytes, files: maxFiles(diskBytes) };
    const used = await measureUsage(this.#o.workspaceDir, { bytes: most.bytes * 2, files: most.files * 2 });
    const before = this.#lastUsage;
    this.#lastUsage = used;
    const grew = used.bytes > before.bytes || used.files > before.files;
    return grew && (used.bytes > most.bytes || used.files > most.files) ? "disk" : null;
  }

  #processesPassed(): SandboxLimit | null {
    if (this.#o.countedFrom === null) return null;
    const { memoryBytes, maxProcesses } = this.#o.limits;
    const pids = descendants(this.#o.countedFrom);
    if (pids.length > maxProcesses) return "processes";
    return pids.reduce((sum, pid) => sum + proportionalBytes(pid), 0) > memoryBytes ? "memory" : null;
  }
}

function descendants(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    const stat = Number.isInteger(pid) ? contents(`/proc/${pid}/stat`) : "";
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1] ?? 0);
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [pid]);
    else siblings.push(pid);
  }
  const found: number[] = [];
  const open = [root];
  for (let pid = open.pop(); pid !== undefined; pid = open.pop()) {
    for (const child of children.get(pid) ?? []) {
      found.push(child);
      open.push(child);
    }
  }
  return found;
}

/** Private memory and a share of what is shared; the resident size where the kernel does not tell. */
function proportionalBytes(pid: number): number {
  const rollup = /^Pss:\s+(\d+) kB$/m.exec(contents(`/proc/${pid}/smaps_rollup`))?.[1];
  const resident = rollup ?? /^VmRSS:\s+(\d+) kB$/m.exec(contents(`/proc/${pid}/status`))?.[1];
  return Number(resident ?? 0) * 1024;
}

function contents(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
