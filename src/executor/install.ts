import { chmodSync, copyFileSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { precompilePython } from "./languages/precompile.ts";
import { putRuntimeFiles } from "./runtime.ts";

/**
 * Fills a directory with this executable, as `sandbox` and as `bun`, and with what runs inside a sandbox: what a container
 * needs for the executor of one sandbox (jail/direct.ts). Python's files are compiled where there is a Python.
 */
export async function installRuntime(dir: string): Promise<void> {
  mkdirSync(dir, { recursive: true });
  await putRuntimeFiles(dir);
  const program = join(dir, "sandbox");
  copyFileSync(process.execPath, program);
  chmodSync(program, 0o755);
  rmSync(join(dir, "bun"), { force: true });
  symlinkSync("sandbox", join(dir, "bun"));
  const python = Bun.which("python3");
  if (python !== null) await precompilePython(dir, python);
}
