import { readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = "/sys/fs/cgroup";

/** The control group of this container, as it sees it itself: read-only, with everything that runs in it. */
export type ContainerGroup = {
  /** Processes that the kernel killed for memory so far. */
  memoryKills(): number;
  /** Forks that were refused for the limit so far. */
  processRefusals(): number;
  /** Whether running out of memory ends the whole container, and not one process of it. */
  endsAsAWhole: boolean;
};

/** Version 2 as a whole or version 1 by controller; what is not there counts nothing. */
export function containerGroup(): ContainerGroup {
  const isV2 = contents("cgroup.controllers") !== "";
  const memory = isV2 ? "memory.events" : "memory/memory.oom_control";
  const pids = isV2 ? "pids.events" : "pids/pids.events";
  return {
    memoryKills: () => count(memory, /^oom_kill (\d+)$/m),
    processRefusals: () => count(pids, /^max (\d+)$/m),
    endsAsAWhole: contents("memory.oom.group").trim() === "1",
  };
}

function count(file: string, pattern: RegExp): number {
  return Number(pattern.exec(contents(file))?.[1] ?? 0);
}

function contents(file: string): string {
  try {
    return readFileSync(join(ROOT, file), "utf8");
  } catch {
    return "";
  }
}
