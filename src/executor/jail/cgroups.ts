import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SandboxLimits } from "../protocol.ts";
import { membersOf, NEEDED, type CgroupRoots } from "./cgroup-roots.ts";
import { killIfThere } from "./proc.ts";

/** Microseconds of a CPU quota's period, the kernel's default. */
const CPU_PERIOD_US = 100_000;

/** The control groups of one sandbox. */
export class SandboxCgroup {
  readonly #roots: Exclude<CgroupRoots, { version: 0 }>;
  readonly #name: string;

  /** `name` is relative to the executor's own group, such as `sandbox-1a2b/sess_x`. */
  constructor(roots: Exclude<CgroupRoots, { version: 0 }>, name: string) {
    this.#roots = roots;
    this.#name = name;
  }

  /** Directories that a process joins by its `cgroup.procs`. */
  get paths(): string[] {
    const { ...roots } = this.#roots;
    if (roots.version === 2) return [join(roots.path, this.#name)];
    const tops = [roots.memory, roots.cpu, roots.pids, roots.cpuacct].filter((top) => top !== null);
    return [...new Set(tops)].map((top) => join(top, this.#name));
  }

  /** Makes the groups and sets their limits. Throws when a limit can't be set: then nothing may run. */
  create(limits: SandboxLimits): void {
    for (const path of this.paths) mkdirSync(path, { recursive: true });
    this.setLimits(limits);
  }

  /** Sets the limits of groups that exist. */
  setLimits(limits: SandboxLimits): void {
    const roots = this.#roots;
    const quotaUs = Math.max(1000, Math.round(limits.cpuCores * CPU_PERIOD_US));
    const set = (top: string | null, file: string, value: string | number): void => {
      if (top !== null) writeFileSync(join(top, this.#name, file), String(value));
    };
    if (roots.version === 2) {
      this.#enableBelow(roots.path);
      set(roots.path, "memory.max", limits.memoryBytes);
      if (existsSync(join(roots.path, this.#name, "memory.swap.max"))) set(roots.path, "memory.swap.max", 0);
      set(roots.path, "pids.max", limits.maxProcesses);
      set(roots.path, "cpu.max", `${quotaUs} ${CPU_PERIOD_US}`);
      return;
    }
    set(roots.memory, "memory.limit_in_bytes", limits.memoryBytes);
    if (roots.memory !== null && existsSync(join(roots.memory, this.#name, "memory.memsw.limit_in_bytes")))
      set(roots.memory, "memory.memsw.limit_in_bytes", limits.memoryBytes);
    set(roots.pids, "pids.max", limits.maxProcesses);
    set(roots.cpu, "cpu.cfs_period_us", CPU_PERIOD_US);
    set(roots.cpu, "cpu.cfs_quota_us", quotaUs);
  }

  /** The group between the executor's and the sandbox's must pass the controllers on. */
  #enableBelow(root: string): void {
    const control = join(root, this.#name, "..", "cgroup.subtree_control");
    if (!readFileSync(control, "utf8").includes("memory")) {
      writeFileSync(control, NEEDED.map((name) => `+${name}`).join(" "));
      this.paths.forEach((path) => mkdirSync(path, { recursive: true }));
    }
  }

  /** Processes that the kernel killed for memory so far. */
  memoryKills(): number {
    return this.#count("memory.events", "memory.oom_control", /^oom_kill (\d+)$/m, "memory");
  }

  /** Forks that were refused for the limit so far. */
  processRefusals(): number {
    return this.#count("pids.events", "pids.events", /^max (\d+)$/m, "pids");
  }

  /** CPU time used so far, in microseconds; tells whether anything has run since the last look. */
  cpuUs(): number {
    const roots = this.#roots;
    if (roots.version === 2) return this.#count("cpu.stat", "", /^usage_usec (\d+)$/m, "cpu");
    return roots.cpuacct === null ? Date.now() : this.#count("", "cpuacct.usage", /^(\d+)$/m, "cpuacct") / 1000;
  }

  #count(v2File: string, v1File: string, pattern: RegExp, controller: "memory" | "pids" | "cpu" | "cpuacct"): number {
    const roots = this.#roots;
    const path =
      roots.version === 2 ? join(roots.path, this.#name, v2File) : join(roots[controller] ?? "", this.#name, v1File);
    try {
      return Number(pattern.exec(readFileSync(path, "utf8"))?.[1] ?? 0);
    } catch {
      return 0;
    }
  }

  /** Host pids of the processes in the group. */
  members(): number[] {
    return membersOf(this.paths[0] ?? "");
  }

  /** Kills what is in the groups: at once where the kernel can do that, else one after the other. */
  kill(): void {
    for (const path of this.paths) killMembers(path);
  }

  /** Removes the groups once nothing is in them. True when they are gone. */
  remove(): boolean {
    return this.paths.every((path) => removeGroup(path));
  }
}

function killMembers(path: string): void {
  const all = join(path, "cgroup.kill");
  if (existsSync(all)) return writeIfThere(all, "1");
  for (const pid of membersOf(path)) killIfThere(pid);
}

function writeIfThere(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" && (error as NodeJS.ErrnoException).code !== "ENODEV")
      throw error;
  }
}

function removeGroup(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}

/** Where the groups of an executor's sandboxes are: directories that each hold one of every sandbox. */
export function groupParents(roots: CgroupRoots, name: string): string[] {
  if (roots.version === 0) return [];
  return new SandboxCgroup(roots, name).paths;
}

/** Kills what is in the groups below these directories, and removes them and the directories. True when all are gone. */
export function clearGroups(parents: readonly string[]): boolean {
  const groups = parents.flatMap((parent) => directoriesIn(parent).map((name) => join(parent, name)));
  for (const path of groups) killMembers(path);
  return [...groups, ...parents].map((path) => removeGroup(path)).every(Boolean);
}

function directoriesIn(path: string): string[] {
  try {
    const entries = readdirSync(path, { withFileTypes: true });
    return entries.filter((one) => one.isDirectory()).map((one) => one.name);
  } catch {
    return [];
  }
}
