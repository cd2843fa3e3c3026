import { renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { buildInit } from "../executor/init/build.ts";

const SOURCES = join(import.meta.dir, "../executor/init");
/** Where assets.ts imports it from; the compiled executable carries it. */
const BUILT = join(import.meta.dir, "../../dist/sandbox-init");

/** Compiles init for a program that runs from source, unless it is newer than its sources. Throws what the compiler said. */
export async function compileInitFromSource(): Promise<void> {
  const builtMs = statSync(BUILT, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = await Array.fromAsync(new Bun.Glob("*.{c,h}").scan(SOURCES));
  if (sources.every((name) => statSync(join(SOURCES, name)).mtimeMs < builtMs)) return;
  const aside = `${BUILT}.${process.pid}`;
  await buildInit(aside);
  renameSync(aside, BUILT);
}
