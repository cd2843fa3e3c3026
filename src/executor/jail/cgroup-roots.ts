import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** Where this process's control groups are. `null` for a controller that can't be used here. */
export type CgroupRoots =
  | { version: 2; path: string }
  | { version: 1; memory: string | null; cpu: string | null; pids: string | null; cpuacct: string | null }
  | { version: 0; why: string };

/** Controllers without which version 2 is not used. */
export const NEEDED = ["memory", "pids", "cpu"] as const;
/** Name of the group in which the service itself is, beside those of sandboxes (systemd: DelegateSubgroup=service). */
const OWN_GROUP = "service";
const MOVING_ROUNDS = 100;
const NOT_DELEGATED = "the control group of the executor is not delegated to its user";

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
    const present = below(mount, line.slice(3));
    const top = below(mount, "/");
    let why: string | null = null;
    for (const path of [
      ...(basename(present) === OWN_GROUP ? [dirname(present)] : []),
      ...(process.getuid?.() === 0 && isHierarchyRoot(top) ? [top] : []),
      present,
    ]) {
      why = writable(path) === null ? NOT_DELEGATED : enableControllers(path);
      if (why === null) return { version: 2, path };
    }
    return { version: 0, why: why ?? NOT_DELEGATED };
  }
}

/** The root of the whole hierarchy is the one group that may hold processes beside controlled children. */
function isHierarchyRoot(path: string): boolean {
  return !existsSync(join(path, "cgroup.type"));
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

/**
 * Null when children of the group can have every controller, else why not. A group with processes can't give controllers
 * to children, so what is in it moves into a child first: this process, the service that started it and what else is there.
 */
function enableControllers(path: string): string | null {
  const control = join(path, "cgroup.subtree_control");
  try {
    const offered = readFileSync(join(path, "cgroup.controllers"), "utf8").trim().split(" ");
    const missing = NEEDED.filter((name) => !offered.includes(name));
    if (missing.length > 0) return `the controllers ${missing.join(", ")} are not delegated`;
    const enabled = readFileSync(control, "utf8").trim().split(" ");
    if (NEEDED.every((name) => enabled.includes(name))) return null;
    if (!isHierarchyRoot(path)) moveMembers(path, join(path, OWN_GROUP));
    writeFileSync(control, NEEDED.map((name) => `+${name}`).join(" "));
    return null;
  } catch (error) {
    return `controllers can't be enabled: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function moveMembers(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (let round = 0; round < MOVING_ROUNDS; round++) {
    const members = membersOf(from);
    if (members.length === 0) return;
    for (const pid of members) {
      try {
        writeFileSync(join(to, "cgroup.procs"), String(pid));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
      }
    }
  }
}

/** Host pids of the processes in a group; none when it is gone. */
export function membersOf(path: string): number[] {
  try {
    const pids = readFileSync(join(path, "cgroup.procs"), "utf8").split("\n").map(Number);
    return pids.filter((pid) => pid > 1);
  } catch {
    return [];
  }
}
