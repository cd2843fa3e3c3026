import { existsSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";

const BIN = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "sandbox-tests/python/bin");

/** The reason why the document can't be judged here, for the tests' names; null when it can. In CI it always can. */
export const toolsMissing =
  process.env.CI === undefined && !existsSync(join(BIN, "schemathesis"))
    ? "schemathesis is not installed: bash .ci/setup --tests"
    : null;

/** The golden document, and what makes it anew. */
export const GOLDEN = join(import.meta.dir, "golden/openapi.json");
export const RENEW = "bun src/main.ts openapi > test/openapi/golden/openapi.json";

/** Runs a program of test/openapi/requirements.txt to its end. schemathesis leaves what it found in `cwd`, and tries it again. */
export async function runTool(
  program: string,
  args: string[],
  env: Record<string, string> = {},
  cwd: string = tmpdir(),
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = Bun.spawn([join(BIN, program), ...args], {
    cwd,
    env: { PATH: process.env.PATH ?? "", HOME: homedir(), ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}
