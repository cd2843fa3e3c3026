import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { removeTree } from "../../src/executor/jail/remove-tree.ts";
import { precompilePython } from "../../src/executor/languages/precompile.ts";

/** A directory below another, with a quick module in it and one that takes a while. */
async function modules(): Promise<{ top: string; dir: string }> {
  const top = await mkdtemp("/tmp/sandbox-test-");
  const dir = join(top, "runtime/sandbox");
  await mkdir(dir, { recursive: true });
  await Bun.write(join(dir, "a.py"), "x = 1\n");
  await Bun.write(join(dir, "b.py"), "x = [1, 2, 3]\n".repeat(20_000));
  return { top, dir };
}

test("a directory is compiled once for all that read it", async () => {
  const { top, dir } = await modules();
  await precompilePython(dir, "/usr/bin/python3");
  expect(await readdir(join(dir, "__pycache__"))).toHaveLength(2);
  await rm(top, { recursive: true });
});

test("a directory that is removed meanwhile is not made again", async () => {
  const { top, dir } = await modules();
  const cache = join(dir, "__pycache__");
  const done = precompilePython(dir, "/usr/bin/python3");
  while (!existsSync(cache) || (await readdir(cache)).length === 0) await Bun.sleep(1);
  await removeTree(top);
  await done;
  expect(existsSync(top)).toBe(false);
});
