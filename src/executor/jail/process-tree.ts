import { statfsSync } from "node:fs";
import { memoryFileBytes } from "./held-files.ts";
import { contents, killIfThere, namesIn } from "./proc.ts";

/** Where a sandbox may have file systems whose content is memory. */
const MEMORY_DIRECTORIES = ["/tmp", "/dev/shm"];
const TMPFS = 0x01021994;
/** Rounds after which what forks faster than it is killed is left alone. */
const MAX_KILL_ROUNDS = 50;

/** What the processes of a sandbox use together, where no control group counts it. */
export type TreeUsage = {
  /** Processes and threads. */
  tasks: number;
  /** Anonymous memory, shared pages by their share, and files in memory (`/tmp`, `/dev/shm`, memfd). */
  memoryBytes: number;
};

/** Pids of the processes below `root`, without it. Costs as much as there are of them, not as the host has. */
export function descendants(root: number): number[] {
  const found: number[] = [];
  const open = [root];
  for (let pid = open.pop(); pid !== undefined; pid = open.pop())
    for (const child of childrenOf(pid)) {
      found.push(child);
      open.push(child);
    }
  return found;
}

/** Kills a process, which takes in the orphans below it, and everything below it. */
export function killTree(root: number): void {
  for (let round = 0; round < MAX_KILL_ROUNDS; round++) {
    const pids = descendants(root).filter(isAlive);
    if (pids.length === 0) break;
    for (const pid of pids) killIfThere(pid);
  }
  killIfThere(root);
}

/** Pids of the children of a process, of all its threads. */
export function childrenOf(pid: number): number[] {
  return tasksOf(pid).flatMap((task) =>
    contents(`/proc/${pid}/task/${task}/children`)
      .split(" ")
      .map(Number)
      .filter((child) => child > 0),
  );
}

/** Whether the process exists and has not ended, not even as a zombie. */
export function isAlive(pid: number): boolean {
  const stat = contents(`/proc/${pid}/stat`);
  return stat !== "" && !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
}

/**
 * A number that changes whenever a process below `root` has run: the sum of their time on a CPU, in nanoseconds, and of
 * their pids. What has come and gone in between shows in the time of its parent. Always another one where the kernel does
 * not tell.
 */
export function activityOf(root: number): number {
  let sum = 0;
  for (const pid of descendants(root)) {
    sum += pid;
    for (const task of tasksOf(pid)) {
      const ranNs = Number.parseInt(contents(`/proc/${pid}/task/${task}/schedstat`), 10);
      if (Number.isNaN(ranNs)) return performance.now();
      sum += ranNs;
    }
  }
  return sum;
}

/** Memory is summed roughly (too high) first, and exactly only when that is above `memoryLimit`. */
export function treeUsage(root: number, memoryLimit: number): TreeUsage {
  const pids = descendants(root);
  const tasks = pids.reduce((sum, pid) => sum + tasksOf(pid).length, 0);
  const files = memoryFileBytes(pids) + MEMORY_DIRECTORIES.reduce((sum, path) => sum + usedBytes(pids[0], path), 0);
  const rough = files + sumOf(pids, residentBytes);
  return { tasks, memoryBytes: rough <= memoryLimit ? rough : files + sumOf(pids, anonymousBytes) };
}

function sumOf(pids: readonly number[], bytesOf: (pid: number) => number): number {
  return pids.reduce((sum, pid) => sum + bytesOf(pid), 0);
}

/** Of the file system at `path` as the process sees it, if it is one in memory. */
function usedBytes(pid: number | undefined, path: string): number {
  try {
    const { type, blocks, bfree, bsize } = statfsSync(`/proc/${pid}/root${path}`);
    return type === TMPFS ? (blocks - bfree) * bsize : 0;
  } catch {
    return 0;
  }
}

function tasksOf(pid: number): string[] {
  return namesIn(`/proc/${pid}/task`);
}

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(contents(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
}

function anonymousBytes(pid: number): number {
  const rollup = contents(`/proc/${pid}/smaps_rollup`);
  const kilobytes = /^Pss_Anon:\s+(\d+) kB$/m.exec(rollup)?.[1] ?? /^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1];
  return kilobytes === undefined ? residentBytes(pid) : Number(kilobytes) * 1024;
}
