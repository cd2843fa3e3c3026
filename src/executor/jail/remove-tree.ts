import { lstatSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import { AppError } from "../../errors.ts";

/** By `rm`, which takes paths of any depth and follows no links. */
const REMOVE = ["rm", "-rf", "--one-file-system", "--"];
/** Opens what its own user closed by mode. */
const OPEN = ["chmod", "-R", "u+rwX", "--"];
const QUIET = { stdin: "ignore", stdout: "ignore", stderr: "ignore" } as const;
const ALL = { recursive: true, force: true } as const;

/** Removes a directory and all below it, if it is there, also what its own user closed by mode. Nothing may run in it. */
export async function removeTree(dir: string): Promise<void> {
  if (!isThere(dir)) return;
  if (await isDone([...REMOVE, dir])) return;
  await isDone([...OPEN, dir]);
  if (await isDone([...REMOVE, dir])) return;
  // A machine without these commands, or the reason why it can't be done.
  await rm(dir, ALL).catch((cause: unknown) => {
    throw new AppError("internal", "a directory could not be removed", { cause });
  });
}

/** The same for a process that is about to exit: blocks, tries again while what ran there is ending, and never throws. */
export function removeTreeNow(dir: string, tries = 5, pauseMs = 20): void {
  try {
    for (let left = tries; left > 0 && isThere(dir); left--) {
      if (left < tries) Bun.sleepSync(pauseMs);
      if (Bun.spawnSync([...REMOVE, dir], QUIET).success) return;
      Bun.spawnSync([...OPEN, dir], QUIET);
    }
  } catch {
    rmSync(dir, { ...ALL, maxRetries: tries, retryDelay: pauseMs });
  }
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

async function isDone(command: string[]): Promise<boolean> {
  try {
    return (await Bun.spawn(command, QUIET).exited) === 0;
  } catch {
    return false;
  }
}
