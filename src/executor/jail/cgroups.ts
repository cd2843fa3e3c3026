import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SandboxLimits } from "../protocol.ts";

/** Where this process's control groups are. `null` for a controller that can't be used here. */
export type CgroupRoots =
  | { version: 2; path: string }
  | { version: 1; memory: string | null; cpu: string | null; pids: string | null; cpuacct: string | null }
  | { version: 0; why: string };

/** Microseconds of a CPU quota's period, the kernel's default. */
const CPU_PERIOD_US = 100_000;
const NEEDED = ["memory", "pids", "cpu"] as const;

/** Finds where child groups can be made: version 2 where it has the controllers, else version 1. Makes no sandbox's group. */
export function findCgroups(): CgroupRoots {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  const own = readFileSync("/proc/self/cgroup", "utf8").trim().split("\n");
  const v1 = { memory: v1Root("memory"), cpu: v1Root("cpu"), pids: v1Root("pids"), cpuacct: v1Root("cpuacct") };
  if (v1.memory !== null && v1.pids !== null) return { version: 1, ...v1 };
  return v2Roots();

  function v1Root(controller: string): string | null {
    const line = own.find((one) => one.split(":")[1]?.split(",").includes(controller) === true);
    const mount = mounts.find((one) => / - cgroup \S+ (\S+)$/.exec(one)?.[1]?.split(",").includes(controller) === true);
    if (line === undefined || mount === undefined) return null;
    return writable(below(mount, line.split(":").slice(2).join(":")));
  }

  function v2Roots(): CgroupRoots {
    const line = own.find((one) => one.startsWith("0::"));
    const mount = mounts.find((one) => / - cgroup2 /.test(one));
    if (line === undefined || mount === undefined)
      return { version: 0, why: "no cgroup file system with a memory controller" };
    const path = writable(below(mount, line.slice(3)));
    if (path === null) return { version: 0, why: "the control group of the executor is not delegated to its user" };
    const why = enableControllers(path);
    return why === null ? { version: 2, path } : { version: 0, why };
  }
}

/** The group's directory: mountinfo's fields 4 and 5 are the mount's root inside the hierarchy and its mount point. */
function below(mountLine: string, group: string): string {
  const [, , , root = "/", point = ""] = mountLine.split(" ");
  const inside = root !== "/" && group.startsWith(root) ? group.slice(root.length) : group;
  return join(point, inside);
}

/** Proves by making and removing a group that it can be done. */
function writable(path: string): string | null {
  const probe = join(path, `sandbox-probe-${process.pid}`);
  try {
    mkdirSync(probe);
    rmdirSync(probe);
    return path;
  } catch {
    return null;
  }
}

/** A group with processes can't give controllers to children, so this process moves into a child of its own first. */
function enableControllers(path: string): string | null {
  const enable = (): void =>
    writeFileSync(join(path, "cgroup.subtree_control"), NEEDED.map((name) => `+${name}`).join(" "));
  try {
    const offered = readFileSync(join(path, "cgroup.controllers"), "utf8").trim().split(" ");
    const missing = NEEDED.filter((name) => !offered.includes(name));
    if (missing.length > 0) return `the controllers ${missing.join(", ")} are not delegated`;
    const enabled = readFileSync(join(path, "cgroup.subtree_control"), "utf8");
    if (NEEDED.every((name) => enabled.includes(name))) return null;
    try {
      enable();
    } catch {
      mkdirSync(join(path, "executor"), { recursive: true });
      writeFileSync(join(path, "executor/cgroup.procs"), String(process.pid));
      enable();
    }
    return null;
  } catch (error) {
    return `controllers can't be enabled: ${error instanceof Error ? error.message : String(error)}`;
  }
}

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

  /** Kills what is in the groups. */
  kill(): void {
    for (const path of this.paths) killMembers(path);
  }

  /** Removes the groups once nothing is in them. True when they are gone. */
  remove(): boolean {
    return this.paths.every((path) => removeGroup(path));
  }
}

function killMembers(path: string): void {
  let members: string[] = [];
  try {
    members = readFileSync(join(path, "cgroup.procs"), "utf8").trim().split("\n");
  } catch {
    return;
  }
  for (const pid of members.map(Number)) {
    try {
      if (pid > 1) process.kill(pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
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

/** Names of the groups below `parent` that an executor before this one left. */
export function leftoverGroups(roots: CgroupRoots, parent: string): string[] {
  if (roots.version === 0) return [];
  const tops = roots.version === 2 ? [roots.path] : [roots.memory, roots.cpu, roots.pids, roots.cpuacct];
  const names = tops.flatMap((top) => {
    try {
      return top === null
        ? []
        : readdirSync(join(top, parent), { withFileTypes: true }).filter((one) => one.isDirectory());
    } catch {
      return [];
    }
  });
  return [...new Set(names.map((one) => join(parent, one.name)))];
}
