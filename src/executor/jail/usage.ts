import { chmodSync, closeSync, constants, fstatSync, lstatSync, openSync, readdirSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { at, statsIfSeen } from "../beneath.ts";
import { heldFiles } from "./held-files.ts";

/** Space and number of files; `files` is Infinity for a tree that is too deep to be counted. */
export type Usage = { bytes: number; files: number };

/** Longest time that a scan keeps the event loop, in milliseconds. */
const SLICE_MS = 2;
/** Directories inside each other that are counted: each takes an open descriptor during the scan. */
const MAX_DEPTH = 256;
const O_PATH = 0o10000000;
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

type Open = { fd: number; names: string[]; next: number; close(): void };

/** One scan at a time, so that the descriptors that they hold stay few. */
let turn: Promise<void> = Promise.resolve();

/**
 * Space and number of files below `root`: allocated blocks, links not followed, a file with several names once. What
 * `pids` hold open or mapped although its name is gone counts too. Walks by descriptors, so that no length of path and
 * nothing that is swapped meanwhile hides or adds anything. Stops early above `most`, since more is not needed to know.
 */
export async function measureUsage(root: string, most: Usage, pids: () => number[] = () => []): Promise<Usage> {
  const before = turn;
  const { promise, resolve } = Promise.withResolvers<void>();
  turn = promise;
  await before;
  try {
    return await measure(root, most, pids);
  } finally {
    resolve();
  }
}

async function measure(root: string, most: Usage, pids: () => number[]): Promise<Usage> {
  const used = { bytes: 0, files: 0 };
  const seen = new Set<number>();
  const add = (ino: number, bytes: number, isSeenOnce: boolean): void => {
    used.files += 1;
    if (!isSeenOnce && seen.has(ino)) return;
    if (!isSeenOnce) seen.add(ino);
    used.bytes += bytes;
  };
  const top = openSync(root, DIRECTORY);
  const { dev } = fstatSync(top);
  const open: Open[] = [opened(top)];
  let sliceEnd = performance.now() + SLICE_MS;
  try {
    for (let here = open.at(-1); here !== undefined; here = open.at(-1)) {
      if (performance.now() > sliceEnd) {
        await setImmediate();
        sliceEnd = performance.now() + SLICE_MS;
      }
      if (used.bytes > most.bytes || used.files > most.files) return used;
      const name = here.names[here.next++];
      if (name === undefined) {
        open.pop()?.close();
        continue;
      }
      const stats = statsIfSeen(at(here.fd, name));
      if (stats === null) continue;
      add(stats.ino, stats.blocks * 512, stats.nlink === 1 || stats.isDirectory());
      if (!stats.isDirectory() || stats.dev !== dev) continue;
      if (open.length === MAX_DEPTH) return { ...used, files: Infinity };
      const below = openDirectory(here.fd, name);
      if (below === "hidden") return { ...used, files: Infinity };
      if (below !== null) open.push(below);
    }
  } finally {
    for (const one of open.toReversed()) one.close();
  }
  for await (const { ino, bytes } of heldFiles(pids(), dev)) if (!seen.has(ino)) add(ino, bytes, false);
  return used;
}

function opened(fd: number, close: () => void = () => closeSync(fd)): Open {
  return { fd, names: readdirSync(at(fd, ".")), next: 0, close };
}

/**
 * Null for what is no directory any more. A directory that its mode closes to its own user (and the executor runs as that
 * user) is opened for the time of the scan; `hidden` when even that is undone meanwhile.
 */
function openDirectory(parent: number, name: string): Open | "hidden" | null {
  try {
    const { mode } = lstatSync(at(parent, name));
    if (process.geteuid?.() !== 0 && (mode & 0o500) !== 0o500) return openClosed(parent, name);
    return opened(openSync(at(parent, name), DIRECTORY));
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES" ? "hidden" : null;
  }
}

function openClosed(parent: number, name: string): Open {
  const path = openSync(at(parent, name), O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  const mode = fstatSync(path).mode & 0o7777;
  const restore = (): void => {
    chmodSync(at(path, "."), mode);
    closeSync(path);
  };
  try {
    chmodSync(`/proc/self/fd/${path}`, mode | 0o700);
    const fd = openSync(at(parent, name), DIRECTORY);
    return opened(fd, () => {
      closeSync(fd);
      restore();
    });
  } catch (error) {
    restore();
    throw error;
  }
}
