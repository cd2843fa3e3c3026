import { lstatSync, readdirSync } from "node:fs";
import { setImmediate } from "node:timers/promises";

export type Usage = { bytes: number; files: number };

/** Longest time that a scan keeps the event loop, in milliseconds. */
const SLICE_MS = 2;

/**
 * Space and number of files below `root`: allocated blocks, links not followed, a file with several names once. Stops
 * early above `most`, since more is not needed to know.
 */
export async function measureUsage(root: string, most: Usage): Promise<Usage> {
  const used = { bytes: 0, files: 0 };
  const seen = new Set<number>();
  const open = [root];
  let sliceEnd = performance.now() + SLICE_MS;
  for (let dir = open.pop(); dir !== undefined; dir = open.pop()) {
    for (const entry of entriesOf(dir)) {
      const path = `${dir}/${entry.name}`;
      if (entry.isDirectory()) open.push(path);
      add(used, path, seen);
    }
    if (used.bytes > most.bytes || used.files > most.files) break;
    if (performance.now() < sliceEnd) continue;
    await setImmediate();
    sliceEnd = performance.now() + SLICE_MS;
  }
  return used;
}

function entriesOf(dir: string) {
  try {
    return readdirSync(dir, { withFileTypes: true });
  } catch {
    return [];
  }
}

function add(used: Usage, path: string, seen: Set<number>): void {
  try {
    const { blocks, nlink, ino } = lstatSync(path);
    used.files += 1;
    if (nlink > 1 && seen.has(ino)) return;
    if (nlink > 1) seen.add(ino);
    used.bytes += blocks * 512;
  } catch {
    // It is gone meanwhile.
  }
}
