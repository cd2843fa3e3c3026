import { lstatSync } from "node:fs";
import { AppError } from "../../errors.ts";

/** By `rm`, which takes paths of any depth and follows no links. */
const REMOVE = ["rm", "-rf", "--one-file-system", "--"];
/** Opens what its own user closed by mode. */
const OPEN = ["chmod", "-R", "u+rwX", "--"];
const QUIET = { stdin: "ignore", stdout: "ignore", stderr: "pipe" } as const;

/** Removes a directory and all below it, if it is there, also what its own user closed by mode. Nothing may run in it. */
export async function removeTree(dir: string): Promise<void> {
  if (!isThere(dir)) return;
  if ((await run([...REMOVE, dir])) === null) return;
  await run([...OPEN, dir]);
  const said = await run([...REMOVE, dir]);
  if (said !== null) throw new AppError("internal", "a directory could not be removed", { cause: new Error(said) });
}

/** The same for a process that is about to exit: blocks, tries again while what ran there is ending, and never throws. */
export function removeTreeNow(dir: string, tries = 5, pauseMs = 20): void {
  for (let left = tries; left > 0 && isThere(dir); left--) {
    if (left < tries) Bun.sleepSync(pauseMs);
    if (Bun.spawnSync([...REMOVE, dir], QUIET).success) return;
    Bun.spawnSync([...OPEN, dir], QUIET);
  }
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Null when the command was done, else what it said. */
async function run(command: string[]): Promise<string | null> {
  const child = Bun.spawn(command, QUIET);
  const said = await new Response(child.stderr).text();
  return (await child.exited) === 0 ? null : said;
}
