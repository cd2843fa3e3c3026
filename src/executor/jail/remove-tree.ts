import { lstatSync } from "node:fs";
import { AppError } from "../../errors.ts";

/**
 * Removes a directory and all below it, if it is there. By `rm`, which takes paths of any depth and follows no links; what
 * its own user closed by mode is opened first. Nothing may run in it.
 */
export async function removeTree(dir: string): Promise<void> {
  if (lstatSync(dir, { throwIfNoEntry: false }) === undefined) return;
  const remove = ["rm", "-rf", "--one-file-system", "--", dir];
  if ((await run(remove)) === null) return;
  await run(["chmod", "-R", "u+rwX", "--", dir]);
  const said = await run(remove);
  if (said !== null) throw new AppError("internal", "a directory could not be removed", { cause: new Error(said) });
}

/** Null when the command was done, else what it said. */
async function run(command: string[]): Promise<string | null> {
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  const said = await new Response(child.stderr).text();
  return (await child.exited) === 0 ? null : said;
}
