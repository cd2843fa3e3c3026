import { readlinkSync, statSync, type Stats } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { contents, namesIn } from "./proc.ts";

/** A file by its inode, and the space that it takes. */
export type HeldFile = { ino: number; bytes: number };

/** Descriptors that are looked at before others get their turn. */
const A_TURN = 256;
const DELETED = " (deleted)";

/**
 * Files of the device `dev` that have no name any more but that the processes have open, so that space is found that no
 * directory shows. One that is only mapped counts as large as it is mapped. What is under way in a socket, or belongs to a
 * process that may not be looked at, is not found.
 */
export async function* heldFiles(pids: readonly number[], dev: number): AsyncGenerator<HeldFile> {
  const mapped = `${hex((dev >> 8) & 0xfff)}:${hex((dev & 0xff) | ((dev >> 12) & 0xfff00))}`;
  let looked = 0;
  for (const pid of pids) {
    for (const fd of namesIn(`/proc/${pid}/fd`)) {
      if (++looked % A_TURN === 0) await setImmediate();
      const held = openedFile(`/proc/${pid}/fd/${fd}`, dev);
      if (held !== null) yield held;
    }
    yield* mappedFiles(pid, mapped);
  }
}

/** Bytes of anonymous memory files (memfd) that the processes have open, each once. */
export function memoryFileBytes(pids: readonly number[]): number {
  const bytes = new Map<string, number>();
  for (const pid of pids)
    for (const fd of namesIn(`/proc/${pid}/fd`)) {
      const path = `/proc/${pid}/fd/${fd}`;
      const stats = targetOf(path).startsWith("/memfd:") ? opened(path) : null;
      if (stats !== null) bytes.set(`${stats.dev}:${stats.ino}`, stats.blocks * 512);
    }
  return bytes.values().reduce((sum, one) => sum + one, 0);
}

function openedFile(path: string, dev: number): HeldFile | null {
  const stats = targetOf(path).endsWith(DELETED) ? opened(path) : null;
  return stats?.dev === dev && stats.nlink === 0 ? { ino: stats.ino, bytes: stats.blocks * 512 } : null;
}

/** What a descriptor is open on. Null when it is closed or its process has ended meanwhile, which is more than one error. */
function opened(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}

/** `device` as /proc/PID/maps writes it. */
function mappedFiles(pid: number, device: string): Iterable<HeldFile> {
  const bytes = new Map<number, number>();
  const maps = contents(`/proc/${pid}/maps`);
  if (!maps.includes(DELETED)) return [];
  for (const line of maps.split("\n")) {
    const [, start = "", end = "", dev, ino] = /^(\w+)-(\w+) \S+ \S+ (\S+) (\d+) /.exec(line) ?? [];
    if (dev !== device || !line.endsWith(DELETED)) continue;
    bytes.set(Number(ino), (bytes.get(Number(ino)) ?? 0) + (Number.parseInt(end, 16) - Number.parseInt(start, 16)));
  }
  return bytes.entries().map(([ino, size]) => ({ ino, bytes: size }));
}

function hex(number: number): string {
  return number.toString(16).padStart(2, "0");
}

function targetOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
